package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

// A runner holds a lock while COMMAND runs.
type runner struct {
	target
	profile   string
	wait      time.Duration
	takesOver bool
	takeOver  flocklock.TakeOverOptions
	close     bool
	exec      bool
	path      string // of COMMAND's program
	argv      []string
}

func newRun() *cobra.Command {
	var r runner
	cmd := &cobra.Command{
		Use:                   "run --scope S (--identity-env NAME | --identity-file FILE | --identity VALUE) -- COMMAND ARG...",
		DisableFlagsInUseLine: true,
		Short:                 "Hold a lock while a command runs",
		Long: `run holds a lock while COMMAND runs, and exits with COMMAND's code. Where the
lock is held already it says by whom and exits with 75. Signals are handed on to
COMMAND.

COMMAND cannot be without the lock: when flocklock is killed, COMMAND keeps the
lock by the open lock file that it inherits; on Windows it is ended. Whatever
COMMAND leaves running does not keep the lock once COMMAND has ended.

With --close COMMAND does not get the open lock file, nor does what it starts.
When flocklock is killed, COMMAND is killed too on Linux, FreeBSD and Windows;
elsewhere it goes on without the lock.

With --replace it ends the process that holds the lock, if that is known for
certain: it asks it to end and kills it after the grace, with all that inherited
the lock from it. On Windows, where nobody can be asked, it ends it at once. A
lock that was taken so is left alone for a minute: two gateways that replace each
other under supervisors would go on once a minute; use --wait there.

With --exec nobody is left to give the lock back: it is held until COMMAND has
ended, and all that inherited the open lock file from it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("no COMMAND is given")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.prepare(cmd, args); err != nil {
				return err
			}
			return r.run()
		},
	}
	bindLock(cmd)
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows COMMAND is COMMAND's
	flags.DurationVar(&r.wait, "wait", 0, "how long to wait for the lock, such as 30s")
	flags.BoolVar(&r.takesOver, "replace", false, "end the process that holds the lock")
	bindGrace(cmd, &r.takeOver)
	flags.BoolVar(&r.close, "close", false, "keep the open lock file from COMMAND")
	flags.BoolVar(&r.exec, "exec", false, "become COMMAND, so that the record has COMMAND's PID (Unix only)")
	flags.StringVar(&r.profile, "profile", "", "the gateway's profile, by its `name`, for the record")
	cmd.MarkFlagsMutuallyExclusive("exec", "close")
	complete(cmd, "wait", cobra.NoFileCompletions)
	complete(cmd, "profile", cobra.NoFileCompletions)
	return cmd
}

// prepare finds out what can be known before the lock is taken.
func (r *runner) prepare(cmd *cobra.Command, argv []string) (err error) {
	if r.wait < 0 {
		return usage("the value of --wait is negative")
	}
	if r.takeOver.Grace <= 0 {
		return usage("the value of --grace is not positive")
	}
	if !r.takesOver && (cmd.Flag("grace").Changed || cmd.Flag("force").Changed) {
		return usage("--grace and --force are for --replace")
	}
	if r.exec && !canReplace {
		return usage("--exec: this system cannot replace a process by another program")
	}
	if r.target, err = lockTarget(cmd); err != nil {
		return err
	}
	r.argv = argv
	if r.path, err = exec.LookPath(argv[0]); err != nil {
		var missing *exec.Error
		if errors.As(err, &missing) && strings.Contains(argv[0], r.identity) {
			err = fmt.Errorf("COMMAND: %w", missing.Err) // it may be the identity, by mistake
		}
		return &exitError{exitUnavailable, err}
	}
	return nil
}

func (r *runner) run() error {
	// Caught from here on, so that no signal ends flocklock while it holds
	// the lock and COMMAND does not run yet.
	signals := make(chan os.Signal, 64)
	ending := notIgnored(endingSignals)
	signal.Notify(signals, append(notIgnored(passingSignals), ending...)...)

	ctx, stop := signal.NotifyContext(context.Background(), ending...)
	lock, err := r.acquire(ctx)
	stop()
	if sig := endingOf(signals); sig != nil {
		return release(lock, sig)
	}
	if err != nil {
		return libraryError(err)
	}
	if r.exec {
		return release(lock, r.replace(lock, signals))
	}
	return release(lock, r.start(lock, signals))
}

// notIgnored leaves out what whoever started us made us ignore, as nohup does:
// to catch it would make COMMAND heed it.
func notIgnored(signals []os.Signal) []os.Signal {
	var rest []os.Signal
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			rest = append(rest, sig)
		}
	}
	return rest
}

// endingOf takes what has been caught so far, and returns the end that it asks
// for. What asks for none means nothing to a COMMAND that does not run yet.
func endingOf(signals <-chan os.Signal) (end error) {
	for _, sig := range caught(signals) {
		for _, ending := range endingSignals {
			if sig == ending && end == nil {
				end = signalled(sig.(syscall.Signal))
			}
		}
	}
	return end
}

func caught(signals <-chan os.Signal) (all []os.Signal) {
	for {
		select {
		case sig := <-signals:
			all = append(all, sig)
		default:
			return all
		}
	}
}

// release gives back the lock, if there is one, and adds to the outcome what
// went wrong with that.
func release(lock *flocklock.Lock, outcome error) error {
	if lock == nil {
		return outcome
	}
	err := lock.Release()
	if err == nil {
		return outcome
	}
	var exit *exitError
	if !errors.As(outcome, &exit) {
		exit = &exitError{}
	}
	return &exitError{exit.code, errors.Join(exit.err, err)}
}

// start runs COMMAND and waits until it has ended.
func (r *runner) start(lock *flocklock.Lock, signals <-chan os.Signal) error {
	command := &exec.Cmd{Path: r.path, Args: r.argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	bind := giveLock
	if r.close {
		bind = endWithUs
	}
	unbind, err := bind(command, lock)
	if err != nil {
		return &exitError{exitUnavailable, fmt.Errorf("COMMAND cannot be kept from running without the lock: %w", err)}
	}
	defer unbind()
	if err := command.Start(); err != nil {
		return &exitError{exitUnavailable, err}
	}
	// The terminal may have sent these before there was a COMMAND to get them.
	for _, sig := range caught(signals) {
		deliver(command.Process, sig)
	}
	return attend(command, signals)
}

// attend hands signals on to COMMAND until it ends, and returns how it ended.
func attend(command *exec.Cmd, signals <-chan os.Signal) error {
	waited := make(chan error, 1)
	go func() { waited <- command.Wait() }()
	for {
		select {
		case sig := <-signals:
			forward(command.Process, sig)
		case err := <-waited:
			return outcome(command, err)
		}
	}
}

func outcome(command *exec.Cmd, err error) error {
	var ended *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ended):
		return exitOf(command.ProcessState)
	default:
		return &exitError{exitFailed, err}
	}
}
