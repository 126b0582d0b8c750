// What Windows does its own way: how files are opened, written, told apart,
// renamed and removed while others read them, which errors mean what, and handles
// of processes.

package flocklock

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/windows"
)

// safeOpen opens a reparse point (a symlink, a junction) itself and not what it
// leads to.
const safeOpen = windows.FILE_FLAG_OPEN_REPARSE_POINT

// openRecord opens a record for reading, and lets others remove and rename it
// meanwhile, which os.Open would not: an old gateway that removes its record
// must not fail because we look at it.
func openRecord(path string) (*os.File, error) { return openShared(path, windows.GENERIC_READ) }

// openShared opens what stands at a path, and shares it with all.
func openShared(path string, access uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	handle, err := windows.CreateFile(name, access,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, safeOpen|windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}

// noSuchLock reports whether the system said that the file system cannot lock.
func noSuchLock(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, windows.ERROR_INVALID_FUNCTION)
}

// notAllowed reports whether an open failed for want of a permission that
// another way of opening may not need.
func notAllowed(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_WRITE_PROTECT)
}

// interrupted reports whether a call may simply be made again.
func interrupted(error) bool { return false }

// inUse reports whether a file could not be renamed or removed only because
// somebody has it open without sharing its deletion, as Python and os.Open do.
func inUse(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}

// noSuchCall reports whether a way of renaming or linking is not to be had on
// this file system.
func noSuchCall(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, windows.ERROR_INVALID_FUNCTION)
}

// renameNoReplace renames, and fails with fs.ErrExist where newpath exists.
func renameNoReplace(oldpath, newpath string) error {
	from, err := windows.UTF16PtrFromString(oldpath)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	to, err := windows.UTF16PtrFromString(newpath)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	if err := windows.MoveFileEx(from, to, 0); err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	return nil
}

// exchange is not to be had: Windows cannot swap two names.
func exchange(oldpath, newpath string) error { return errors.ErrUnsupported }

// sinceBoot is how long this system has been up, sleep included.
func sinceBoot() (time.Duration, bool) { return windows.DurationSinceBoot(), true }

// bootID is "": Windows has no public name for a boot.
func bootID() (string, error) { return "", nil }

// pidNamespace is "": Windows has one PID space.
func pidNamespace() (string, error) { return "", nil }

// processState says nothing: Windows has no zombies, and gopsutil does not tell
// of suspended processes there.
func processState(int) (zombie, stopped bool) { return false, false }

// exists reports whether a process has this PID. Signal 0, which is how Unix
// asks, is a Ctrl-C on Windows; gopsutil opens the process. Where it cannot
// tell, the process counts as living.
func exists(pid int) bool {
	alive, err := process.PidExists(int32(pid))
	return alive || err != nil
}

// markOf returns the mark of an open file; nil is one that cannot be opened, and
// then tells nothing.
func markOf(file *os.File, _ fs.FileInfo) (mark, error) {
	if file == nil {
		return mark{}, errors.ErrUnsupported
	}
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(file.Fd()), &info); err != nil {
		return mark{}, &fs.PathError{Op: "stat", Path: file.Name(), Err: err}
	}
	return mark{
		uint64(info.VolumeSerialNumber), uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
		int64(info.FileSizeHigh)<<32 | int64(info.FileSizeLow), info.LastWriteTime.Nanoseconds(),
	}, nil
}

// markAt returns the mark of what stands at a path, a reparse point's own. Who
// does not share the file for reading, a backup say, does not prevent it.
func markAt(path string) (mark, error) {
	file, err := openShared(path, windows.FILE_READ_ATTRIBUTES)
	if err != nil {
		return mark{}, err
	}
	defer file.Close()
	return markOf(file, nil)
}

// standsThere reports whether a path names the file that info describes.
func standsThere(path string, info fs.FileInfo) (bool, error) {
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(at, info), err
}

// writeNew writes a new file, and fails with fs.ErrExist where there is one. The
// file's time is settled only when the last handle that wrote to it is closed;
// see "File Times" in Microsoft's documentation.
func writeNew(path string, text []byte) (written mark, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|safeOpen, 0o644)
	if err != nil {
		return mark{}, err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		written, err = markAt(path)
	}
	if err != nil {
		os.Remove(path)
		return mark{}, err
	}
	return written, nil
}

// ownedByUs is not known here: who made a file may not be who owns it.
func ownedByUs(fs.FileInfo) bool { return true }

// ownedByRoot is not asked: see ownedByUs.
func ownedByRoot(fs.FileInfo) bool { return true }

// belongsTo is not known either.
func belongsTo(fs.FileInfo, int) bool { return true }

// A handle is one process, whoever gets its PID later: to wait for its end, and
// to end it. The zero handle, and that of a process of which none can be had,
// waits for the time only.
type handle struct {
	open    bool
	process windows.Handle
}

// openHandle returns a handle of the process that has a PID now.
func openHandle(pid int) handle {
	for _, access := range []uint32{windows.SYNCHRONIZE | windows.PROCESS_TERMINATE, windows.SYNCHRONIZE} {
		if process, err := windows.OpenProcess(access, false, uint32(pid)); err == nil {
			return handle{true, process}
		}
	}
	return handle{}
}

// ended waits for a while, and reports whether the process has ended.
func (h handle) ended(d time.Duration) bool {
	event, err := windows.WaitForSingleObject(h.process, uint32(d.Milliseconds()))
	if err != nil {
		time.Sleep(d)
	}
	return err == nil && event == windows.WAIT_OBJECT_0
}

func (h handle) close() {
	if h.open {
		windows.CloseHandle(h.process)
	}
}

// ask does nothing but say so: a console event reaches whom it likes, for where
// its target is no process group's first process, all of the console get it, see
// microsoft/terminal issue 335.
func (handle) ask() error { return errors.ErrUnsupported }

// kill ends the process.
func (h handle) kill() error { return windows.TerminateProcess(h.process, killedCode) }

// killedCode is the exit code of a process that a take-over ended: what a shell
// makes of SIGKILL.
const killedCode = 128 + 9
