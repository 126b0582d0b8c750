//go:build unix && !aix

package main

import (
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// now is the time of the clock that all processes share, or 0 where there is
// none.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clockMonotonic, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

// cpuTime is what this process has used of the processors.
func cpuTime() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// descriptors counts what this process has open.
func descriptors() (int, error) {
	entries, err := os.ReadDir("/dev/fd")
	return len(entries), err
}

// maxDescriptors allows this process as many as it may have, and says how many
// that is.
func maxDescriptors() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	raised := limit
	raised.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
		limit = raised
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)), nil
}
