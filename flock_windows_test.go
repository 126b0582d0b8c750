package flocklock_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
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

// A program that reads the record and does not let others do so meanwhile, as a
// backup, makes nobody believe that it is another's, nor leaves it behind.
func TestRecordReadByOneAlone(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	path, err := windows.UTF16PtrFromString(recordPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	const shareNothing = 0
	reader, err := windows.CreateFile(path, windows.GENERIC_READ, shareNothing, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { windows.CloseHandle(reader) })
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(recordPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the record is left behind: ", err)
	}
}
