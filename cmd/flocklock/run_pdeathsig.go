//go:build linux || freebsd

package main

import (
	"os/exec"
	"runtime"
	"syscall"

	"github.com/flocklock/flocklock"
)

// endWithUs has COMMAND killed when this process is, for it does not get the
// lock. Linux takes the end of the thread that started COMMAND for that of the
// process, see PR_SET_PDEATHSIG(2const): so this goroutine keeps its thread.
func endWithUs(command *exec.Cmd, _ *flocklock.Lock) (unbind func() error, err error) {
	runtime.LockOSThread()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return func() error { runtime.UnlockOSThread(); return nil }, nil
}
