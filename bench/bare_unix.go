//go:build unix && !aix && (!solaris || illumos)

// The system calls that nobody can do without who takes a flock, waits for one
// or places a record, and nothing else: no os.File, no allocation that the calls do
// not need, and no look at a file but where one is asked for.

package main

import (
	"context"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// looks are how a lock looks whether a path still names its own file.
type looks struct {
	open func(fd int) error
	path func(path string) error
}

var (
	noLooks = looks{func(int) error { return nil }, func(string) error { return nil }}

	// allLooks are those without which the lock file that was locked may be another
	// than the one at its path, and the record that is removed another's.
	allLooks = looks{
		func(fd int) error { return unix.Fstat(fd, new(unix.Stat_t)) },
		func(path string) error { return unix.Lstat(path, new(unix.Stat_t)) },
	}
)

// newBare returns one acquire and release of the lock at path, with a record
// of this text at recordPath.
func newBare(path, recordPath string, text []byte, look looks) (func() error, error) {
	tmp := filepath.Join(filepath.Dir(recordPath), ".bare.tmp")
	return func() error {
		lock, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return err
		}
		if err := errors.Join(look.open(lock), look.path(path)); err != nil {
			return err
		}
		if err := placeBare(tmp, recordPath, text, look); err != nil {
			return err
		}

		if err := look.path(recordPath); err != nil {
			return err
		}
		if err := unix.Unlink(recordPath); err != nil {
			return err
		}
		if err := unix.Flock(lock, unix.LOCK_UN); err != nil {
			return err
		}
		return unix.Close(lock)
	}, nil
}

// placeBare writes a temporary file and gives it the record's name.
func placeBare(tmp, recordPath string, text []byte, look looks) error {
	file, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	if _, err := unix.Write(file, text); err != nil {
		return err
	}
	if err := errors.Join(look.open(file), unix.Close(file)); err != nil {
		return err
	}
	return place(tmp, recordPath)
}

// blockInFlockAndRecord waits in the kernel, and then places a record, in place
// of the one that a killed holder left.
func blockInFlockAndRecord(ctx context.Context, dir string) (release func() error, err error) {
	unlock, err := blockInFlock(ctx, dir)
	if err != nil {
		return nil, err
	}
	tmp, recordPath := filepath.Join(dir, ".bare.tmp"), filepath.Join(dir, "bare.lock")
	err = placeBare(tmp, recordPath, make([]byte, 400), noLooks) // about as long as flocklock's
	if errors.Is(err, unix.EEXIST) {
		err = unix.Rename(tmp, recordPath)
	}
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return func() error { return errors.Join(unix.Unlink(recordPath), unlock()) }, nil
}

// blockInFlock waits in the kernel, as long as it takes.
func blockInFlock(_ context.Context, dir string) (release func() error, err error) {
	fd, err := unix.Open(filepath.Join(dir, "bare.flock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, unix.Close(fd))
		}
	}
	return func() error { return errors.Join(unix.Flock(fd, unix.LOCK_UN), unix.Close(fd)) }, nil
}
