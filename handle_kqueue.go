//go:build darwin || dragonfly || freebsd || netbsd || openbsd

// Handles of processes where kqueue tells of a process's end.

package flocklock

import (
	"time"

	"golang.org/x/sys/unix"
)

// A handle is one process, whoever gets its PID later: to wait for its end, to
// ask it to end, and to end it. The zero handle, and that of a process of which
// none can be had, waits for the time only.
type handle struct {
	open  bool
	queue int
	pid   int
}

// openHandle returns a handle of the process that has a PID now; see kqueue(2),
// EVFILT_PROC.
func openHandle(pid int) handle {
	queue, err := unix.Kqueue()
	if err != nil {
		return handle{}
	}
	h := handle{true, queue, pid}
	unix.CloseOnExec(queue)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD)
	exit.Fflags = unix.NOTE_EXIT
	if _, err := unix.Kevent(queue, []unix.Kevent_t{exit}, nil, nil); err != nil {
		h.close() // it has ended already, or is not ours to watch
		return handle{}
	}
	return h
}

// ended waits for a while, and reports whether the process has ended.
func (h handle) ended(d time.Duration) bool {
	timeout := unix.NsecToTimespec(d.Nanoseconds())
	n, _ := unix.Kevent(h.queue, nil, make([]unix.Kevent_t, 1), &timeout)
	if n < 0 {
		time.Sleep(lookAgain) // interrupted; an error that stays must not make this spin
	}
	return n > 0
}

// signal sends a signal unless the process has ended. In between its PID can go
// to another only if the system goes through all PIDs in that moment.
func (h handle) signal(sig unix.Signal) error {
	if h.ended(0) {
		return unix.ESRCH
	}
	return unix.Kill(h.pid, sig)
}

func (h handle) close() {
	if h.open {
		unix.Close(h.queue)
	}
}
