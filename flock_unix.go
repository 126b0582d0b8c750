//go:build unix

// What every Unix shares: how the lock file and the record are opened, how a
// record is written and told from another, and which errors mean what.

package flocklock

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// safeOpen is added to every open in a lock directory, where anybody may have
// put anything: no symlink is followed, a FIFO does not block the open, a
// terminal does not become ours. os.OpenFile adds O_CLOEXEC, so that no child
// inherits a lock by accident.
const safeOpen = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// openRecord opens a record for reading.
func openRecord(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|safeOpen, 0)
}

// noSuchLock reports whether the kernel said that the file system cannot lock.
// EINVAL is how some FUSE servers and old kernels say it.
func noSuchLock(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL)
}

// notAllowed reports whether an open failed for want of a permission that
// another way of opening may not need.
func notAllowed(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// interrupted reports whether a call may simply be made again.
func interrupted(err error) bool { return errors.Is(err, unix.EINTR) }

// inUse reports whether a file could not be renamed or removed only because
// somebody is reading it. That does not happen on Unix.
func inUse(error) bool { return false }

// noSuchCall reports whether a way of renaming or linking is not to be had on
// this file system: flags it does not know, or no hard links.
func noSuchCall(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK)
}

// exists reports whether a process has this PID. kill(2) is asked and not
// /proc, which hides other users' processes when it is mounted with hidepid.
func exists(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// markOf returns the mark of a file of which info was just got.
func markOf(_ *os.File, info fs.FileInfo) (mark, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return mark{}, errors.ErrUnsupported
	}
	return mark{uint64(stat.Dev), uint64(stat.Ino), info.Size(), info.ModTime().UnixNano()}, nil
}

// markAt returns the mark of what stands at a path, a symlink's own.
func markAt(path string) (mark, error) {
	var stat unix.Stat_t
	if err := again(func() error { return unix.Lstat(path, &stat) }); err != nil {
		return mark{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return newMark(&stat), nil
}

// standsThere reports whether a path names the file that info describes.
func standsThere(path string, info fs.FileInfo) (bool, error) {
	at, err := markAt(path)
	if err != nil {
		return false, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && at.volume == uint64(stat.Dev) && at.file == uint64(stat.Ino), nil
}

func newMark(stat *unix.Stat_t) mark {
	return mark{uint64(stat.Dev), uint64(stat.Ino), stat.Size, stat.Mtim.Nano()}
}

// writeNew writes a new file, and fails with fs.ErrExist where there is one. Each
// acquire does it, so it spares what os.OpenFile does to make a file fit to be
// waited for.
func writeNew(path string, text []byte) (written mark, err error) {
	var fd int
	err = again(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|safeOpen, 0o644)
		return err
	})
	if err != nil {
		return mark{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	written, err = writeAll(fd, text)
	if cerr := unix.Close(fd); err == nil && !interrupted(cerr) { // an interrupted close closes
		err = cerr
	}
	if err != nil {
		os.Remove(path)
		return mark{}, &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return written, nil
}

// writeAll writes a new file's text and returns the file's mark.
func writeAll(fd int, text []byte) (mark, error) {
	for len(text) > 0 {
		var n int
		err := again(func() (err error) {
			n, err = unix.Write(fd, text)
			return err
		})
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return mark{}, err
		}
		text = text[n:]
	}
	var stat unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &stat) }); err != nil {
		return mark{}, err
	}
	return newMark(&stat), share(fd, uint32(stat.Mode))
}

// share makes a file of root's readable for all, whatever its umask: it must not
// block the user whose private directory it is in, when root is gone.
func share(fd int, mode uint32) error {
	if mode&0o044 == 0o044 || os.Geteuid() != 0 {
		return nil
	}
	return again(func() error { return unix.Fchmod(fd, 0o644) })
}

// again makes a call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); !interrupted(err) {
			return err
		}
	}
}

// ownedByUs reports whether a file belongs to the user that we act for.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// ownedByRoot reports whether a file belongs to root.
func ownedByRoot(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

// belongsTo reports whether a file belongs to the user of a process.
func belongsTo(info fs.FileInfo, pid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	user, err := userOf(pid)
	return ok && err == nil && user == userName(stat.Uid)
}

// ask asks the process to end: by SIGTERM, and by SIGCONT, without which a
// stopped process would not hear.
func (h handle) ask() error {
	err := h.signal(unix.SIGTERM)
	if err == nil {
		err = h.signal(unix.SIGCONT)
	}
	return ended(err)
}

// kill ends the process.
func (h handle) kill() error { return ended(h.signal(unix.SIGKILL)) }

// ended takes it for success that the process has ended already.
func ended(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
