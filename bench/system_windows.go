package main

import (
	"math"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32                  = windows.NewLazySystemDLL("kernel32.dll")
	queryPerformanceCounter   = kernel32.NewProc("QueryPerformanceCounter")
	queryPerformanceFrequency = kernel32.NewProc("QueryPerformanceFrequency")
	getProcessHandleCount     = kernel32.NewProc("GetProcessHandleCount")
)

// now is the time of the clock that all processes share, or 0 where there is
// none.
func now() int64 {
	var ticks, frequency int64 // the frequency never changes
	if ok, _, _ := queryPerformanceFrequency.Call(uintptr(unsafe.Pointer(&frequency))); ok == 0 || frequency == 0 {
		return 0
	}
	if ok, _, _ := queryPerformanceCounter.Call(uintptr(unsafe.Pointer(&ticks))); ok == 0 {
		return 0
	}
	return ticks/frequency*1e9 + ticks%frequency*1e9/frequency
}

// cpuTime is what this process has used of the processors. The system counts
// it in ticks of some milliseconds.
func cpuTime() (time.Duration, error) {
	var created, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &ended, &kernel, &user); err != nil {
		return 0, err
	}
	return duration(kernel) + duration(user), nil
}

// duration is what a Filetime that is no date counts, in units of 100 ns.
func duration(t windows.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
}

// descriptors counts what this process has open.
func descriptors() (int, error) {
	var n uint32
	if ok, _, err := getProcessHandleCount.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n))); ok == 0 {
		return 0, err
	}
	return int(n), nil
}

// maxDescriptors has no bound here.
func maxDescriptors() (int, error) { return math.MaxInt32, nil }

// fileSystem names the file system of a directory.
func fileSystem(dir string) string {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(dir) + `\`)
	if err != nil {
		return unknownFileSystem
	}
	var name [windows.MAX_PATH + 1]uint16
	if err := windows.GetVolumeInformation(root, nil, 0, nil, nil, nil, &name[0], uint32(len(name))); err != nil {
		return unknownFileSystem
	}
	return windows.UTF16ToString(name[:])
}
