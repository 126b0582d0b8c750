package flocklock_test

import (
	"os"
	"testing"
	"unsafe"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/windows"
)

func tryAcquireWithDescriptors(t *testing.T, _ flocklock.Dir, _ int) (*flocklock.Lock, error) {
	t.Helper()
	t.Skip("Windows has no limit of open files to run into")
	return nil, nil
}

var (
	kernel32                  = windows.NewLazySystemDLL("kernel32.dll")
	queryPerformanceCounter   = kernel32.NewProc("QueryPerformanceCounter")
	queryPerformanceFrequency = kernel32.NewProc("QueryPerformanceFrequency")
)

// monotonic is the system's performance counter, the same for all processes, in
// nanoseconds.
func monotonic() int64 {
	ticks, second := performance(queryPerformanceCounter), performance(queryPerformanceFrequency)
	return ticks/second*1e9 + ticks%second*1e9/second
}

func performance(query *windows.LazyProc) int64 {
	var n int64
	if ok, _, err := query.Call(uintptr(unsafe.Pointer(&n))); ok == 0 {
		panic(err)
	}
	return n
}

// stopProcess does not: Windows has no call that stops a process.
func stopProcess(*os.Process) bool { return false }
func continueProcess(*os.Process)  {}

// lockedInode is not known: Lock.File is not to be had.
func lockedInode(*flocklock.Lock) uint64 { return 0 }
