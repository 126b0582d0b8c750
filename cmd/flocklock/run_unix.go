//go:build unix

// How COMMAND keeps the lock on Unix: it inherits the open lock file.

package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

const canReplace = true

var (
	// endingSignals end a process that does not say otherwise.
	endingSignals = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

	// passingSignals are those that it does not notice.
	passingSignals = []os.Signal{unix.SIGWINCH, unix.SIGCONT}
)

// giveLock gives COMMAND the open lock file, until unbind is called.
func giveLock(_ *exec.Cmd, lock *flocklock.Lock) (unbind func() error, err error) {
	file, err := inheritable(lock)
	if err != nil {
		return nil, err
	}
	return file.Close, nil
}

// inheritable opens the lock file for every child. ExtraFiles are not used:
// they would take the numbers of descriptors that COMMAND is to inherit from
// whoever started us, make's jobserver for instance.
func inheritable(lock *flocklock.Lock) (*os.File, error) {
	file, err := lock.File()
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFD, 0); err != nil {
		file.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return file, nil
}

// replace becomes COMMAND. It returns only where that fails.
func (r *runner) replace(lock *flocklock.Lock, signals chan os.Signal) error {
	file, err := inheritable(lock)
	if err != nil {
		return &exitError{exitUnavailable, err}
	}
	defer file.Close()
	// From here on a signal does to us what it would do to a COMMAND that has
	// just begun.
	signal.Stop(signals)
	if sig := endingOf(signals); sig != nil {
		return sig
	}
	err = unix.Exec(r.path, r.argv, os.Environ())
	runtime.KeepAlive(file)
	return &exitError{exitUnavailable, &exec.Error{Name: r.argv[0], Err: err}}
}

// forward hands a signal on to COMMAND, unless the terminal has sent it there
// itself.
func forward(command *os.Process, sig os.Signal) {
	if (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground() {
		return
	}
	deliver(command, sig)
}

// deliver hands a signal on. COMMAND may have ended meanwhile.
func deliver(command *os.Process, sig os.Signal) { command.Signal(sig) }

// inForeground reports whether what is typed at the terminal that is our
// standard input sends signals to our process group, which is COMMAND's.
func inForeground() bool {
	front, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	ours, gerr := unix.Getpgid(0)
	return err == nil && gerr == nil && front == ours
}

// exitOf says how COMMAND ended.
func exitOf(state *os.ProcessState) error {
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return signalled(status.Signal())
	}
	return &exitError{state.ExitCode(), nil}
}
