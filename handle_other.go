//go:build unix && !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

// Handles of processes where there are none.

package flocklock

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A handle waits for a time only: here nobody tells of a process's end, and its
// PID alone is not the process.
type handle struct{ open bool }

func openHandle(int) handle { return handle{} }

func (handle) ended(time.Duration) bool { return false }

func (handle) signal(unix.Signal) error { return errors.ErrUnsupported }

func (handle) close() {}
