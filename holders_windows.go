// Who holds a lock, by the Restart Manager, which tells who has a file open.

package flocklock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	restartManager      = windows.NewLazySystemDLL("rstrtmgr.dll")
	rmStartSession      = restartManager.NewProc("RmStartSession")
	rmRegisterResources = restartManager.NewProc("RmRegisterResources")
	rmGetList           = restartManager.NewProc("RmGetList")
	rmEndSession        = restartManager.NewProc("RmEndSession")
)

// An rmProcess is RM_PROCESS_INFO of restartmanager.h.
type rmProcess struct {
	pid              uint32
	start            windows.Filetime
	appName          [256]uint16
	serviceShortName [64]uint16
	applicationType  uint32
	appStatus        uint32
	tsSessionID      uint32
	restartable      int32
}

// holders names the one process that has the file of a held lock open. Only one
// handle can have the lock, and locks are not inherited, so that a lock of ours
// needs no asking.
func (d Dir) holders(name string) ([]Process, error) {
	path := d.path(name, lockSuffix)
	if held.find(name, path) != nil {
		return []Process{{os.Getpid(), withoutFlags(os.Args)}}, nil
	}
	list, err := openers(path)
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, p := range list {
		found = append(found, Process{int(p.pid), p.argv()})
	}
	return onlyOpener(found)
}

// openers lists who has a file open.
func openers(path string) (_ []rmProcess, err error) {
	for _, proc := range []*windows.LazyProc{rmStartSession, rmRegisterResources, rmGetList, rmEndSession} {
		if err := proc.Find(); err != nil {
			return nil, fmt.Errorf("there is no Restart Manager: %w: %w", errors.ErrUnsupported, err)
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	file, err := windows.UTF16PtrFromString(abs)
	if err != nil {
		return nil, err
	}
	var session uint32
	var key [33]uint16 // CCH_RM_SESSION_KEY and the end
	code, _, _ := rmStartSession.Call(uintptr(unsafe.Pointer(&session)), 0, uintptr(unsafe.Pointer(&key[0])))
	if code != 0 {
		return nil, os.NewSyscallError("RmStartSession", windows.Errno(code))
	}
	defer rmEndSession.Call(uintptr(session))
	code, _, _ = rmRegisterResources.Call(uintptr(session), 1, uintptr(unsafe.Pointer(&file)), 0, 0, 0, 0)
	if code != 0 {
		return nil, os.NewSyscallError("RmRegisterResources", windows.Errno(code))
	}
	const most = 1 << 12
	for room := uint32(16); room <= most; room *= 4 { // they may become more meanwhile
		list := make([]rmProcess, room)
		var needed, reasons uint32
		n := room
		code, _, _ = rmGetList.Call(uintptr(session), uintptr(unsafe.Pointer(&needed)), uintptr(unsafe.Pointer(&n)),
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&reasons)))
		if code == 0 {
			return list[:min(n, room)], nil
		}
		if windows.Errno(code) != windows.ERROR_MORE_DATA {
			break
		}
	}
	return nil, os.NewSyscallError("RmGetList", windows.Errno(code))
}

// argv is the program of a process and the words before its first flag; nil
// where the PID is another's by now.
func (p rmProcess) argv() []string {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, p.pid)
	if err != nil {
		return nil
	}
	defer windows.CloseHandle(process) // until then the PID is nobody else's
	var start, exit, kernel, user windows.Filetime
	if windows.GetProcessTimes(process, &start, &exit, &kernel, &user) != nil || start != p.start {
		return nil
	}
	words, _ := commandLine(int(p.pid))
	if len(words) == 0 {
		return nil
	}
	return withoutFlags(words)
}
