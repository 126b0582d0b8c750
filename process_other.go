//go:build !linux

// What gopsutil tells of a process, where there is no /proc. On Linux it is not
// linked in: what it reads when a program starts costs a tenth of that.

package flocklock

import (
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// look asks about a process.
func (f *facts) look() {
	f.zombie, f.stopped = processState(f.pid)
	f.alive = !f.zombie
	f.start, f.began = createTime(f.pid)
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

// startIs reports whether a recorded start time is that of the process. Both are
// wall clock times, and clocks step.
func (f *facts) startIs(recorded int64) (bool, error) {
	const slack = 200 // centiseconds
	return recorded-*f.start <= slack && *f.start-recorded <= slack, nil
}

// words returns the words of a command line.
func words(pid int) ([]string, error) {
	words, _ := (&process.Process{Pid: int32(pid)}).CmdlineSlice()
	if len(words) == 1 && words[0] == "" {
		return nil, nil
	}
	return words, nil
}

// readProcess reads what the system says of this process.
func (id *identity) readProcess() error {
	id.start, _ = createTime(id.pid)
	return nil
}

// userOf returns the user that a process acts for.
func userOf(pid int) (string, error) {
	return (&process.Process{Pid: int32(pid)}).Username()
}
