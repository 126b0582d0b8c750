//go:build unix && !aix && (!solaris || illumos)

// The descriptor through which a lock is held: for a child to inherit, and for
// root to let others open what it made.

package flocklock

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockedFile returns a duplicate of the descriptor through which this process
// holds the lock on the file that info describes.
//
// gofrs/flock does not show its descriptor. Of all descriptors of this file
// only the one that holds the lock can lock it again: for any other, a prober's
// say, flock(2) would block.
func lockedFile(path string, info fs.FileInfo) (*os.File, error) {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// To close a duplicate of any other file would drop the fcntl locks that
		// the program has on it, a database's for instance; see fcntl_locking(2).
		if !isFile(fd, info) {
			continue
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			continue
		}
		file := os.NewFile(uintptr(dup), path)
		if fi, err := file.Stat(); err == nil && os.SameFile(fi, info) &&
			unix.Flock(dup, unix.LOCK_EX|unix.LOCK_NB) == nil {
			return file, nil
		}
		file.Close()
	}
	// FreeBSD without fdescfs lists the standard descriptors only.
	return nil, &fs.PathError{Op: "dup", Path: path, Err: errors.ErrUnsupported}
}

// shareLockFile makes a lock file of root's one that its directory's user can
// lock. Where that fails, the user is told by whose file. A file with another
// name may be a private one of root's that somebody linked here.
func shareLockFile(path string, info fs.FileInfo) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&0o044 == 0o044 || os.Geteuid() != 0 || stat.Uid != 0 || stat.Nlink != 1 {
		return
	}
	if file, err := lockedFile(path, info); err == nil {
		share(int(file.Fd()), uint32(stat.Mode))
		file.Close()
	}
}

// isFile reports whether a descriptor is of the file that info describes. What
// is no descriptor any more, as the one that read /dev/fd, is not.
func isFile(fd int, info fs.FileInfo) bool {
	var at syscall.Stat_t
	file, ok := info.Sys().(*syscall.Stat_t)
	return ok && syscall.Fstat(fd, &at) == nil && at.Dev == file.Dev && at.Ino == file.Ino
}
