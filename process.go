// Facts about a PID: whether a process has it, since when, in what state, with
// what command line; and the same of this process, read once.

package flocklock

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// facts is what the system says of a PID at one moment.
type facts struct {
	pid     int
	alive   bool // a process has the PID, and is not a zombie
	zombie  bool
	stopped bool

	// start is when the process began, in the unit of Record.StartTime; nil
	// where it cannot be known.
	start *int64

	// oddName says that the process's name has a blank in it, so that an old
	// gateway will have recorded another field of /proc/PID/stat as its start.
	oddName bool

	// began is start on the wall clock; zero where it cannot be known.
	began time.Time

	// err is why nothing of this could be found out now, where that may be
	// otherwise the next time: no descriptors are left, say.
	err error
}

// ticksPerSecond is the unit of times in /proc, the same on every architecture
// that Go runs on; see proc_pid_stat(5).
const ticksPerSecond = 100

// examine asks the system about a PID.
func examine(pid int) facts {
	if !exists(pid) {
		return facts{pid: pid}
	}
	if runtime.GOOS == "linux" {
		return examineProc(pid)
	}
	f := facts{pid: pid, alive: true}
	f.zombie, f.stopped = processState(pid)
	f.alive = !f.zombie
	f.start, f.began = createTime(pid)
	return f
}

// createTime asks gopsutil when a process began: in centiseconds since 1970, as
// the old gateways recorded it where there is no /proc, and as a time.
func createTime(pid int) (*int64, time.Time) {
	ms, err := (&process.Process{Pid: int32(pid)}).CreateTime()
	if err != nil || ms <= 0 {
		return nil, time.Time{}
	}
	centis := (ms + 5) / 10
	return &centis, time.UnixMilli(ms)
}

// examineProc asks /proc. gopsutil is not asked for the start: it gives the
// wall clock in whole seconds, which moves when the clock is set.
func examineProc(pid int) facts {
	f := facts{pid: pid, alive: true}
	if self().strangeProc {
		return f
	}
	var text []byte
	if text, f.err = readBounded("/proc/" + strconv.Itoa(pid) + "/stat"); f.err != nil {
		return f
	}
	stat, ok := parseStat(text)
	if !ok {
		return f
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
	return f
}

// stat is what is read of /proc/PID/stat.
type stat struct {
	state   byte
	start   int64
	oddName bool
}

// parseStat reads /proc/PID/stat. The second field is a name that may hold
// blanks and parentheses, so counting starts after the last ')'.
func parseStat(text []byte) (stat, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	const state, starttime = 3, 22 // field numbers of proc_pid_stat(5)
	if len(fields) <= starttime-state || len(fields[0]) != 1 {
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

// startsEqual reports whether a recorded start time is that of a process, and
// whether the two can be compared at all.
//
// Ticks are exact. Elsewhere the start is a wall clock time, and clocks step.
func startsEqual(recorded int64, f facts) (equal, comparable bool) {
	if f.start == nil {
		return false, false
	}
	if runtime.GOOS != "linux" {
		const slack = 200 // centiseconds
		return recorded-*f.start <= slack && *f.start-recorded <= slack, true
	}
	if recorded == *f.start {
		return true, true
	}
	own, err := f.ownStart()
	return recorded == own, recorded == own || err == nil && !f.oddName
}

// commandLine returns the words of a process's command line; none where they
// cannot be read. An error is one that may not be there the next time.
func commandLine(pid int) ([]string, error) {
	if runtime.GOOS == "linux" {
		if self().strangeProc {
			return nil, nil
		}
		text, err := readBounded("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
			return nil, err
		}
		return strings.Split(string(text), "\x00"), nil
	}
	words, _ := (&process.Process{Pid: int32(pid)}).CmdlineSlice()
	if len(words) == 1 && words[0] == "" {
		return nil, nil
	}
	return words, nil
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

// passing returns an error that may not be there the next time, and not one
// that says that there is nothing to see.
func passing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// identity is what this process knows of itself.
type identity struct {
	pid        int
	start      *int64
	argv       []string
	host       string
	bootID     string
	pidNS      string
	bootOffset time.Duration

	// strangeProc says that /proc shows another PID namespace than ours, so
	// that its numbers are not ours. It is so in a namespace whose maker did
	// not mount /proc anew.
	strangeProc bool
}

// knownSelf is the identity of this process once it has been read whole.
var knownSelf atomic.Pointer[identity]

// self is the identity of this process. It is read once, unless something
// passing kept a part from being read.
func self() identity {
	if id := knownSelf.Load(); id != nil {
		return *id
	}
	id, err := readSelf()
	if err == nil {
		knownSelf.Store(&id)
	}
	return id
}

func readSelf() (identity, error) {
	id := identity{pid: os.Getpid(), argv: withoutFlags(os.Args)}
	var errs [6]error
	id.bootID, errs[0] = bootID()
	id.pidNS, errs[1] = pidNamespace()
	id.host, errs[2] = os.Hostname()
	if runtime.GOOS == "linux" {
		var link string
		link, errs[3] = os.Readlink("/proc/self")
		id.strangeProc = errs[3] == nil && link != strconv.Itoa(id.pid)
		id.bootOffset, errs[4] = bootOffset("self")
		var text []byte
		text, errs[5] = readBounded("/proc/self/stat")
		if stat, ok := parseStat(text); ok {
			id.start = &stat.start
		}
	} else {
		id.start, _ = createTime(id.pid)
	}
	for i := range errs {
		errs[i] = passing(errs[i])
	}
	return id, errors.Join(errs[:]...)
}

// withoutFlags returns the program and the words before its first flag. What
// follows may hold secrets and is never written down.
func withoutFlags(args []string) []string {
	const maxWords, maxBytes = 8, 1024
	words := []string{}
	for i, arg := range args {
		if i > 0 && strings.HasPrefix(arg, "-") || len(words) == maxWords {
			break
		}
		if len(arg) > maxBytes {
			arg = arg[:maxBytes]
		}
		words = append(words, strings.ToValidUTF8(arg, "\uFFFD"))
	}
	return words
}

// withoutSecret returns the words before the one that is, or has in it, an
// identity that was given to the program without a flag.
func withoutSecret(words []string, secret string) []string {
	const telling = 8 // a shorter identity is part of a word by chance
	for i, word := range words {
		if word == secret || len(secret) >= telling && strings.Contains(word, secret) {
			return words[:i]
		}
	}
	return words
}
