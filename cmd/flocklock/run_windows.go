// How COMMAND is kept from running without the lock on Windows, where it
// cannot inherit one: it ends with the process that holds it.

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/windows"
)

const canReplace = false

var (
	// endingSignals are what Go makes of Ctrl-C and Ctrl-Break, and of a
	// console that is closed.
	endingSignals  = []os.Signal{os.Interrupt, syscall.SIGTERM}
	passingSignals []os.Signal
)

// giveLock cannot give COMMAND the lock, and has it end with this process.
func giveLock(command *exec.Cmd, lock *flocklock.Lock) (unbind func() error, err error) {
	return endWithUs(command, lock)
}

// endWithUs puts this process, and so every child, into a job that ends with this
// process, until unbind is called. COMMAND is born in the job: put there after
// its start, it could outlive a process that was killed in between.
func endWithUs(*exec.Cmd, *flocklock.Lock) (unbind func() error, err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	if err = limit(job, windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE); err == nil {
		err = os.NewSyscallError("AssignProcessToJobObject", windows.AssignProcessToJobObject(job, windows.CurrentProcess()))
	}
	if err != nil {
		return nil, errors.Join(err, windows.CloseHandle(job))
	}
	return func() error {
		// What COMMAND left running lives on. Where the limit stays, to close
		// the job would end this process before it has given back the lock.
		if err := limit(job, 0); err != nil {
			return err
		}
		return windows.CloseHandle(job)
	}, nil
}

func limit(job windows.Handle, flags uint32) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = flags
	_, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	return os.NewSyscallError("SetInformationJobObject", err)
}

func (r *runner) replace(*flocklock.Lock, chan os.Signal) error { panic("canReplace is false") }

// forward does nothing: the console has told COMMAND itself.
func forward(*os.Process, os.Signal) {}

// deliver ends a COMMAND that began too late for the console to tell it.
func deliver(command *os.Process, _ os.Signal) { command.Kill() }

// exitOf says how COMMAND ended.
func exitOf(state *os.ProcessState) error { return &exitError{state.ExitCode(), nil} }
