package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRunTerminal: what is typed at a terminal reaches COMMAND once.
func TestRunTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	cmd := flocklock(running(t.TempDir(), nil, "signals")...)
	cmd.Stdin = terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p := start(t, cmd)
	t.Cleanup(func() { master.Close() }) // which ends COMMAND's input
	p.expect("pid ")
	// A second signal of a kind can merge with the first, so one round may not
	// show it.
	for range 10 {
		for key, sig := range map[string]string{"\x03": "SIGINT", "\x1c": "SIGQUIT"} {
			fmt.Fprint(master, key)
			p.expect(sig)
			// flocklock hands signals on one after another: this one would
			// come after a second one of the terminal's.
			p.signal(syscall.SIGUSR1)
			p.expect("SIGUSR1")
		}
	}
	fmt.Fprint(master, "\x04")
	same(t, "exit code", p.wait(), 0)
}

// TestRunWaitTerminal: on a terminal the seconds of a wait are counted, on a line
// that goes when there is more to say.
func TestRunWaitTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	defer master.Close()
	dir := t.TempDir()
	holder := hold(t, dir)
	cmd := flocklock(running(dir, []string{"--wait", "1h"}, "exit", "0")...)
	cmd.Stderr = terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill(); master.Close() })
	defer stuck.Stop()
	var seen strings.Builder
	read := func(until string) {
		for part := make([]byte, 1024); !strings.Contains(seen.String(), until); {
			n, err := master.Read(part)
			if err != nil {
				t.Fatalf("the terminal shows %q, not %q: %v", seen.String(), until, err)
			}
			seen.Write(part[:n])
		}
	}
	read("waiting for " + scope + ", held by ")
	read("\rflocklock: waited for 1 s")
	read("\rflocklock: waited for 2 s")
	holder.stdin.Close()
	read("\r" + strings.Repeat(" ", len("flocklock: waited for 2 s")))
	read("\rflocklock: got the lock after ")
}

// TestStatusHolders: every process that has the lock is named, unless the record
// says it all.
func TestStatusHolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, flocklock(running(dir, nil, "echo")...))
	command, err := strconv.Atoi(p.expect("pid "))
	if err != nil {
		t.Fatal(err)
	}
	pids := func() (list []int) {
		holders, _ := status(t, dir)["holders"].([]any)
		for _, h := range holders {
			h := h.(map[string]any)
			list = append(list, int(h["pid"].(float64)))
			same(t, "argv", h["argv"].([]any)[0], executable())
			same(t, "keys", len(h), 2)
		}
		slices.Sort(list)
		return list
	}
	both := []int{command, p.cmd.Process.Pid}
	slices.Sort(both)
	same(t, "holders", pids(), both)
	words := func() string { return expect(t, 75, on(dir, "status")...).stdout }
	for _, pid := range both {
		if got := words(); !strings.HasPrefix(got, scope+" is held by ") || !strings.Contains(got, fmt.Sprintf("\nIts lock file is held by flocklock.test %s (PID %d).\n",
			map[bool]string{true: "worker echo", false: "run"}[pid == command], pid)) {
			t.Errorf("PID %d is not in %s", pid, got)
		}
	}
	p.kill()
	p.ping()
	same(t, "holders", pids(), []int{command})
	if got := words(); !strings.Contains(got, fmt.Sprintf("\nIts lock file is held by flocklock.test worker echo (PID %d).\n", command)) {
		t.Error(got)
	}

	dir = t.TempDir()
	p = hold(t, dir, "--close")
	same(t, "the only holder", pids(), []int{p.cmd.Process.Pid})
	same(t, "lines", strings.Count(words(), "\n"), 1)
}

// 32: a COMMAND that does not heed the request to end is ended too, however it
// came by the lock, and however many have it by then.
func TestRow32ReplaceDeaf(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{nil, {"--close"}, {"--exec"}} {
		dir := t.TempDir()
		deaf := start(t, flocklock(running(dir, how, "deaf")...))
		deaf.expect("pid ")
		next := start(t, flocklock(running(dir, []string{"--replace", "--grace", "50ms"}, "echo")...))
		next.expect("level=WARN msg=\"flocklock: ending the holder of a lock to take it over\"")
		next.expect("pid ")
		if line, more := deaf.hear(); more {
			t.Errorf("%q: COMMAND says %q", how, line)
		}
		deaf.wait()
		next.stdin.Close()
		same(t, fmt.Sprint("exit code with ", how), next.wait(), 0)
	}
}

// TestRunUnanswered: a file system does not answer whether the lock is free. run
// gives up when its time is up, and heeds a signal.
func TestRunUnanswered(t *testing.T) {
	t.Parallel()
	mnt := t.TempDir()
	inside := func(args ...string) *exec.Cmd {
		cmd := flocklock(append([]string{"worker", "unanswered", mnt}, args...)...)
		cmd.SysProcAttr = isolated(unix.CLONE_NEWNS)
		return cmd
	}
	if out, err := inside("worker", "exit", "0").CombinedOutput(); err != nil {
		t.Skipf("no FUSE here: %s%v", out, err)
	}
	below := filepath.Join(mnt, "locks")
	r := finish(t, inside(running(below, []string{"--wait", "50ms"}, "exit", "0")...))
	if r.code != 75 || !strings.Contains(r.stderr, "does not answer") {
		t.Errorf("%+v", r)
	}
	p := start(t, inside(running(below, nil, "exit", "0")...))
	child := 0
	until(t, "the kernel is asked", func() bool {
		for _, path := range glob(t, "/proc/%d/task/*/children", p.cmd.Process.Pid) {
			text, _ := os.ReadFile(path)
			fmt.Sscan(string(text), &child)
		}
		return child != 0 && slices.ContainsFunc(glob(t, "/proc/%d/task/*/wchan", child), func(path string) bool {
			text, _ := os.ReadFile(path)
			return strings.Contains(string(text), "fuse")
		})
	})
	if err := syscall.Kill(child, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	same(t, "exit code", p.wait(), 128+int(syscall.SIGTERM))
}

func glob(t *testing.T, pattern string, pid int) []string {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf(pattern, pid))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestIdentityIsNotInCommandLines: who gives the identity by the environment or a
// file does not find it in a list of processes, nor in what is told of a COMMAND
// that has it as a word.
func TestIdentityIsNotInCommandLines(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "token"), secret)
	for _, identity := range [][]string{{"--identity-env", "TOKEN"}, {"--identity-file", file}} {
		for _, how := range []string{"--scope=" + scope, "--close", "--exec"} {
			dir := t.TempDir()
			command := slices.Concat([]string{"run", "--dir", dir, "--scope", scope, how}, identity)
			holder := start(t, flocklock(append(command, "--", executable(), "worker", "echo")...))
			pids := []string{holder.expect("pid "), strconv.Itoa(holder.cmd.Process.Pid)}
			waiter := start(t, flocklock(append(command, "--wait", "1h", "--", executable(), "worker", "echo")...))
			waiter.expect("flocklock: waiting for ")
			for _, pid := range append(pids, strconv.Itoa(waiter.cmd.Process.Pid)) {
				text, err := os.ReadFile("/proc/" + pid + "/cmdline")
				if err != nil || !strings.Contains(string(text), "worker") || strings.Contains(string(text), "a-secret") {
					t.Errorf("%q: the command line of PID %s: %q, %v", command, pid, text, err)
				}
			}
			files(t, dir)
		}
	}
	dir := t.TempDir()
	start(t, flocklock(running(dir, []string{"--exec"}, "echo", secret)...)).expect("pid ")
	for _, args := range [][]string{on(dir, "status"), on(dir, "status", "--json"), on(dir, "run", "--", "true"), {"unlock", "--dir", dir, name}} {
		expect(t, 75, args...)
	}
	for _, args := range [][]string{{"ls", "--dir", dir}, {"ls", "--dir", dir, "--json"}, {"migrate", "--dir", dir}} {
		expect(t, 0, args...)
	}
	files(t, dir)
}

// TestLsTerminal: on a terminal ls has colours, unless NO_COLOR says no, and
// --watch draws the table in place.
func TestLsTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held := hold(t, dir)
	for env, coloured := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=0": false, "TERM=dumb": false} {
		if shown := onTerminal(t, env, "ls", "--dir", dir); strings.Contains(shown, "\x1b[32mheld\x1b[0m") != coloured ||
			strings.Contains(shown, "\x1b") != coloured || !strings.Contains(shown, "held") {
			t.Errorf("%s: the terminal shows %q", env, shown)
		}
		if shown := onTerminal(t, env, "ls", "--dir", dir, "--json"); strings.Contains(shown, "\x1b") {
			t.Errorf("%s: the terminal shows %q", env, shown)
		}
	}
	master, terminal := openTerminal(t)
	defer master.Close()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 60, Row: 10}); err != nil {
		t.Fatal(err)
	}
	cmd := flocklock("ls", "--dir", dir, "--watch")
	cmd.Stdout = terminal
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill(); master.Close() })
	defer stuck.Stop()
	shown := readUntil(t, master, "held")
	for _, line := range strings.Split(readUntil(t, master, "\x1b[J"), "\n") {
		if len(line) > 60+len("\x1b[K\r") {
			t.Errorf("wider than the terminal: %q", line)
		}
	}
	if strings.Contains(shown, "\x1b[H") {
		t.Errorf("what stood there before is lost: %q", shown)
	}
	held.stdin.Close()
	readUntil(t, master, "\r\x1b[2ASCOPE")
	readUntil(t, master, "free")
	readUntil(t, master, "\x1b[J")
	fmt.Fprint(master, "\x03")
	cmd.Wait()
	same(t, "exit code", cmd.ProcessState.ExitCode(), 128+2)
}

// onTerminal is what a command shows on a terminal until it ends.
func onTerminal(t *testing.T, env string, args ...string) string {
	t.Helper()
	master, terminal := openTerminal(t)
	defer master.Close()
	cmd := flocklock(args...)
	cmd.Stdout = terminal
	cmd.Env = append(cmd.Env, "TERM=xterm", env)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	shown, _ := io.ReadAll(master) // EIO is the end of it
	cmd.Wait()
	same(t, "exit code", cmd.ProcessState.ExitCode(), 0)
	return string(shown)
}

// readUntil reads what a terminal shows until it shows a text.
func readUntil(t *testing.T, master *os.File, text string) string {
	t.Helper()
	var seen strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(seen.String(), text); seen.Write(one) {
		if _, err := master.Read(one); err != nil {
			t.Fatalf("the terminal shows %q, not %q: %v", seen.String(), text, err)
		}
	}
	return seen.String()
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}
