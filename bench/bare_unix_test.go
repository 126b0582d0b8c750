//go:build unix && !aix && (!solaris || illumos)

// The system calls that nobody can do without who takes a flock and places a
// record, and nothing else: no check, no os.File, no allocation that the calls
// do not need.

package bench_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// newBare returns one acquire and release of the lock at path, with a record
// of this text at recordPath.
func newBare(_ *testing.B, path, recordPath string, text []byte) func() error {
	tmp := filepath.Join(filepath.Dir(recordPath), ".bare.tmp")
	return func() error {
		lock, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return err
		}
		file, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		if _, err := unix.Write(file, text); err != nil {
			return err
		}
		if err := unix.Close(file); err != nil {
			return err
		}
		if err := place(tmp, recordPath); err != nil {
			return err
		}

		if err := unix.Unlink(recordPath); err != nil {
			return err
		}
		if err := unix.Flock(lock, unix.LOCK_UN); err != nil {
			return err
		}
		return unix.Close(lock)
	}
}
