//go:build unix

package main_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	workers["die"] = func(args []string) {
		n, _ := strconv.Atoi(args[0])
		signal.Reset()
		syscall.Kill(os.Getpid(), syscall.Signal(n))
		time.Sleep(hang) // any thread may get the signal, a moment later
	}
	// signals names the signals it gets.
	workers["signals"] = func([]string) {
		signals := make(chan os.Signal, 64)
		signal.Notify(signals, handedOn...)
		go func() {
			for sig := range signals {
				fmt.Println(unix.SignalName(sig.(syscall.Signal)))
			}
		}()
		echo()
	}
	workers["hangup"] = func([]string) { fmt.Println("ignored", signal.Ignored(syscall.SIGHUP)) }
	// nohup becomes the command, with SIGHUP ignored.
	workers["nohup"] = func(args []string) {
		signal.Ignore(syscall.SIGHUP)
		fmt.Println(syscall.Exec(executable(), append([]string{executable()}, args...), os.Environ()))
	}
	workers["write-3"] = func([]string) { fmt.Println(fmt.Fprint(os.NewFile(3, "3"), "by COMMAND")) }
}

var handedOn = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
}

func (p *proc) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// inherits skips where a child cannot inherit a lock.
func inherits(t *testing.T) {
	t.Helper()
	if r := finish(t, flocklock(running(t.TempDir(), nil, "exit", "0")...)); r.code == 69 {
		t.Skip("no child can inherit a lock here: ", r.stderr)
	}
}

// TestUsageNotText: elsewhere an argument is always text.
func TestUsageNotText(t *testing.T) {
	t.Parallel()
	expect(t, 64, "status", "--dir", t.TempDir(), "--scope", scope, "--identity", "\xff")
}

func TestRunSignalCode(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			continue // whoever started the tests, nohup say, ignores it for all
		}
		dir := t.TempDir()
		expect(t, 128+int(sig), running(dir, nil, "die", strconv.Itoa(int(sig)))...)
		same(t, "files", files(t, dir), []string{name + ".flock"})
	}
}

func TestRunHandsSignalsOn(t *testing.T) {
	t.Parallel()
	p := start(t, flocklock(running(t.TempDir(), nil, "signals")...))
	p.expect("pid ")
	for _, sig := range handedOn {
		if signal.Ignored(sig) {
			continue
		}
		p.signal(sig)
		p.expect(unix.SignalName(sig.(syscall.Signal)))
	}
	p.stdin.Close()
	same(t, "exit code", p.wait(), 0)
}

func TestRunEndedBySignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir)
	p.signal(syscall.SIGTERM)
	same(t, "exit code", p.wait(), 128+15)
	same(t, "files", files(t, dir), []string{name + ".flock"})
	same(t, "state", state(t, dir), "free")
}

// TestRunSignalBeforeCommand: a signal that comes when the record has just been
// written ends flocklock or COMMAND, and leaves no record behind.
func TestRunSignalBeforeCommand(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := t.TempDir()
		p := start(t, flocklock(running(dir, nil, "echo")...))
		until(t, "the record is there", func() bool {
			_, err := os.Lstat(filepath.Join(dir, name+".lock"))
			return err == nil
		})
		p.signal(syscall.SIGTERM)
		same(t, "exit code", p.wait(), 128+15)
		same(t, "files", files(t, dir), []string{name + ".flock"})
		p.stdin.Close()
	}
}

func TestRunWaitEndedBySignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			continue
		}
		p := start(t, flocklock(running(dir, []string{"--wait", "1h"}, "echo")...))
		p.expect("flocklock: ")
		p.signal(sig)
		same(t, "exit code", p.wait(), 128+int(sig))
		if line, more := p.hear(); more {
			t.Errorf("waiter says %q", line)
		}
	}
}

func TestLsWatchEndedBySignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			continue
		}
		p := start(t, flocklock("ls", "--dir", t.TempDir(), "--watch"))
		p.expect("There are no locks")
		p.signal(sig)
		same(t, "exit code", p.wait(), 128+int(sig))
	}
}

func TestRunNohup(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--exec"}} {
		r := finish(t, flocklock(append([]string{"worker", "nohup"}, running(t.TempDir(), flags, "hangup")...)...))
		same(t, fmt.Sprint("nohup with ", flags), r, result{0, "ignored true\n", ""})
	}
}

// TestRunParentKilled: COMMAND keeps the lock.
func TestRunParentKilled(t *testing.T) {
	t.Parallel()
	inherits(t)
	dir := t.TempDir()
	p := hold(t, dir)
	p.kill()
	p.ping()
	same(t, "state", state(t, dir), "held")
	same(t, "standing", status(t, dir)["standing"], "unknown")
	expect(t, 75, running(dir, nil, "exit", "0")...)
	p.stdin.Close()
	until(t, "COMMAND frees the lock", func() bool { return state(t, dir) == "free" })
	expect(t, 0, running(dir, nil, "exit", "0")...)
	same(t, "files", files(t, dir), []string{name + ".flock"})
}

// TestRunClose: COMMAND does not have the lock, and so ends with flocklock where
// the system can see to that.
func TestRunClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir, "--close")
	p.kill()
	if runtime.GOOS == "linux" || runtime.GOOS == "freebsd" {
		if line, more := p.hear(); more {
			t.Errorf("COMMAND says %q", line)
		}
	} else {
		p.ping()
	}
	same(t, "state", state(t, dir), "free")
	expect(t, 0, running(dir, nil, "exit", "0")...)
}

// TestUnlockInterrupted: who is interrupted ends nobody else.
func TestUnlockInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, flocklock("run", "--dir", dir, "--scope", "a", "--identity-env", "TOKEN", "--", executable(), "worker", "deaf"))
	first.expect("pid ")
	second := start(t, flocklock("run", "--dir", dir, "--scope", "b", "--identity-env", "TOKEN", "--", executable(), "worker", "echo"))
	second.expect("pid ")
	hash := hashOf(secret)
	p := start(t, flocklock("unlock", "--dir", dir, "--end-holder", "--grace", "1h", "a-"+hash, "b-"+hash))
	p.expect("level=WARN msg=\"flocklock: ending the holder")
	p.signal(syscall.SIGINT)
	same(t, "exit code", p.wait(), 128+int(syscall.SIGINT))
	first.ping()
	second.ping()
}

func TestRunExec(t *testing.T) {
	t.Parallel()
	inherits(t)
	dir := t.TempDir()
	p := start(t, flocklock(running(dir, []string{"--exec"}, "echo")...))
	same(t, "COMMAND's PID", p.expect("pid "), p.cmd.Process.Pid)
	s := status(t, dir)
	same(t, "record's pid", s["record"].(map[string]any)["pid"], p.cmd.Process.Pid)
	same(t, "standing", s["standing"], "verified")
	expect(t, 75, running(dir, nil, "exit", "0")...)
	p.kill()
	same(t, "state", state(t, dir), "free")
	expect(t, 5, running(dir, []string{"--exec"}, "exit", "5")...)
}

func TestRunExecCannotStart(t *testing.T) {
	t.Parallel()
	inherits(t)
	dir := t.TempDir()
	broken := write(t, filepath.Join(t.TempDir(), "broken"), "this is no program")
	if err := os.Chmod(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, 69, append(on(dir, "run", "--exec"), "--", broken)...)
	same(t, "files", files(t, dir), []string{name + ".flock"})
	same(t, "state", state(t, dir), "free")
}

// TestRunKeepsDescriptors: the lock file takes the place of nothing that
// COMMAND is to inherit.
func TestRunKeepsDescriptors(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--close"}, {"--exec"}} {
		file, err := os.Create(filepath.Join(t.TempDir(), "3"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd := flocklock(running(t.TempDir(), flags, "write-3")...)
		cmd.ExtraFiles = []*os.File{file}
		finish(t, cmd)
		text, _ := os.ReadFile(file.Name())
		same(t, fmt.Sprint("file with ", flags), string(text), "by COMMAND")
	}
}

func TestStatusStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir)
	p.signal(syscall.SIGSTOP)
	until(t, "it is stopped", func() bool { return status(t, dir)["standing"] == "stopped" })
	p.signal(syscall.SIGCONT)
	until(t, "it goes on", func() bool { return status(t, dir)["standing"] == "verified" })
}

func TestStatusFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	defer full.Close()
	for _, flags := range [][]string{nil, {"--json"}} {
		cmd := flocklock(on(t.TempDir(), "status", flags...)...)
		cmd.Stdout = full
		err := cmd.Run()
		same(t, "exit", err, "exit status 1")
	}
}
