//go:build unix

// What every Unix shares: how the lock file and the record are opened, which
// errors mean what, and the descriptor that a child may inherit.

package flocklock

import (
	"errors"
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

// closedInfo is what a file is after it was written and closed. On Unix that is
// what it was before.
func closedInfo(_ string, info fs.FileInfo) (fs.FileInfo, error) { return info, nil }

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

// hasOneName reports whether a file has no other name, by a hard link.
func hasOneName(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 1
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
