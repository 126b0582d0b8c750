package flocklock_test

import (
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

var queryPerformanceCounter = windows.NewLazySystemDLL("kernel32.dll").NewProc("QueryPerformanceCounter")

// monotonic is the system's performance counter, the same for all processes.
func monotonic() int64 {
	var ticks int64
	if ok, _, err := queryPerformanceCounter.Call(uintptr(unsafe.Pointer(&ticks))); ok == 0 {
		panic(err)
	}
	return ticks
}
