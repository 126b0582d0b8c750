// What only Linux tells of a process, in /proc.

package flocklock

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of times in /proc, the same on every architecture
// that Go runs on; see proc_pid_stat(5).
const ticksPerSecond = 100

// look asks /proc about a process. gopsutil is not asked for the start: it gives
// the wall clock in whole seconds, which moves when the clock is set.
func (f *facts) look() {
	var text []byte
	if text, f.err = readBounded("/proc/" + strconv.Itoa(f.pid) + "/stat"); f.err != nil {
		return
	}
	stat, ok := parseStat(text)
	if !ok {
		return
	}
	switch stat.state {
	case 'Z', 'X', 'x':
		f.zombie, f.alive = true, false
	case 'T', 't':
		f.stopped = true
	}
	f.start, f.oddName = &stat.start, stat.oddName
	if up, ok := sinceBoot(); ok {
		f.began = time.Now().Add(time.Duration(stat.start)*(time.Second/ticksPerSecond) - up)
	}
}

// stat is what is read of /proc/PID/stat.
type stat struct {
	state   byte
	start   int64
	oddName bool
}

// parseStat reads /proc/PID/stat. The second field is a name that may hold
// blanks and parentheses, so counting starts after the last ')'. A number that
// the text ends in may be cut short and does not count.
func parseStat(text []byte) (stat, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	const state, starttime = 3, 22 // field numbers of proc_pid_stat(5)
	if len(fields) <= starttime-state+1 || len(fields[0]) != 1 {
		return stat{}, false
	}
	start, err := strconv.ParseInt(fields[starttime-state], 10, 64)
	if err != nil {
		return stat{}, false
	}
	return stat{
		state:   fields[0][0],
		start:   start,
		oddName: len(bytes.Fields(text[open:end])) != 1,
	}, true
}

// bootOffset is what the time namespace of a process adds to the time since
// boot; see time_namespaces(7). pid is a number or "self".
func bootOffset(pid string) (time.Duration, error) {
	text, err := readBounded("/proc/" + pid + "/timens_offsets")
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "boottime" {
			continue
		}
		sec, err1 := strconv.ParseInt(fields[1], 10, 32)
		nsec, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err1 == nil && err2 == nil {
			return time.Duration(sec)*time.Second + time.Duration(nsec), nil
		}
	}
	return 0, err
}

// ownStart is what the process itself takes for its start: its time namespace
// may count from another boot than ours.
func (f facts) ownStart() (int64, error) {
	theirs, err := bootOffset(strconv.Itoa(f.pid))
	return *f.start + int64((theirs-self().bootOffset)/(time.Second/ticksPerSecond)), err
}

// startIs reports whether a recorded start time is that of the process. Ticks are
// exact.
func (f *facts) startIs(recorded int64) (bool, error) {
	if recorded == *f.start {
		return true, nil
	}
	own, err := f.ownStart()
	return recorded == own, err
}

// words returns the words of a command line.
func words(pid int) ([]string, error) {
	text, err := readBounded("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
		return nil, err
	}
	return strings.Split(string(text), "\x00"), nil
}

// readBounded reads no more of a file in /proc than a record may have. What is
// not there, or not for us to read, is empty.
func readBounded(path string) ([]byte, error) {
	// O_NONBLOCK spares os.OpenFile four calls of fcntl.
	file, err := os.OpenFile(path, os.O_RDONLY|safeOpen, 0)
	if err != nil {
		return nil, passing(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxRecord))
	return text, passing(err)
}

// readProcess reads what /proc says of this process.
func (id *identity) readProcess() error {
	var errs [3]error
	var link string
	link, errs[0] = os.Readlink("/proc/self")
	id.strangeProc = errs[0] == nil && link != strconv.Itoa(id.pid)
	id.bootOffset, errs[1] = bootOffset("self")
	var text []byte
	text, errs[2] = readBounded("/proc/self/stat")
	if stat, ok := parseStat(text); ok {
		id.start = &stat.start
	}
	for i := range errs {
		errs[i] = passing(errs[i])
	}
	return errors.Join(errs[:]...)
}
