package main_test

// The test binary is every process of these tests: where the environment says
// so it is the command, and with "worker" as its first word a COMMAND. A worker
// tells its state by lines on its standard output, answers lines with the same,
// and ends when its standard input does, so that no test waits for a time.

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	command "github.com/flocklock/flocklock/cmd/flocklock"
	"github.com/rogpeppe/go-internal/testscript"
)

const (
	roleEnv     = "FLOCKLOCK_TEST_COMMAND"
	sabotageEnv = "FLOCKLOCK_TEST_SABOTAGE"
	hurryEnv    = "FLOCKLOCK_TEST_HURRY" // the doctor has no more time than elsewhere
	scope       = "telegram-bot-token"
	secret      = "123456:a-secret-token"

	// hang is how long a test waits for what must happen. It is no measure of
	// speed: a machine may be busy.
	hang = time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv(hurryEnv) == "" {
		command.GiveDoctor(hang)
	}
	switch {
	case os.Getenv(roleEnv) == "":
		// For the scripts the command is in PATH; there roleEnv is set too.
		testscript.Main(m, map[string]func(){"flocklock": command.Main})
	case len(os.Args) > 2 && os.Args[1] == "worker":
		work(os.Args[2], os.Args[3:])
	case len(os.Args) > 1 && os.Args[1] == os.Getenv(sabotageEnv):
		fmt.Println("held 1ms")
		echo()
	default:
		command.Main()
	}
}

func work(mode string, args []string) {
	if do, known := workers[mode]; known {
		do(args)
		return
	}
	fmt.Println("no such worker:", mode)
	os.Exit(2)
}

var workers = map[string]func(args []string){
	"echo": func([]string) { echo() },
	"exit": func(args []string) {
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	},
	"print": func(args []string) { fmt.Printf("%q\n", args) },
	// deaf is echo that does not heed a request to end.
	"deaf": func([]string) {
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		echo()
	},
	// leave ends and leaves a child behind.
	"leave": func([]string) {
		child := exec.Command(executable(), "worker", "echo")
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			fmt.Println(err)
		}
	},
}

func echo() {
	fmt.Println("pid", os.Getpid())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(lines.Text())
	}
}

func executable() string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exe
}

// flocklock is the command with arguments, not started yet.
func flocklock(args ...string) *exec.Cmd {
	cmd := exec.Command(executable(), args...)
	// A race detector sleeps for a second when a process ends.
	cmd.Env = append(os.Environ(), roleEnv+"=1", "TOKEN="+secret, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// A result is how a command ended. No test may see the identity in it.
type result struct {
	code           int
	stdout, stderr string
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = hang
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(hang, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	cmd.Wait()
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if strings.Contains(r.stdout+r.stderr, "a-secret") {
		t.Errorf("%q tells the identity:\n%s%s", cmd.Args[1:], r.stdout, r.stderr)
	}
	return r
}

// expect runs a command to its end and checks its exit code.
func expect(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := finish(t, flocklock(args...))
	if r.code != code {
		t.Fatalf("%q: exit code %d, want %d\nstdout: %s\nstderr: %s", args, r.code, code, r.stdout, r.stderr)
	}
	if n := strings.Count(r.stderr, "flocklock: "); r.stderr != "" && n != 1 {
		t.Errorf("%q: stderr names flocklock %d times: %s", args, n, r.stderr)
	}
	return r
}

// on is a command line about the lock of these tests.
func on(dir, subcommand string, flags ...string) []string {
	return append([]string{subcommand, "--dir", dir, "--scope", scope, "--identity-env", "TOKEN"}, flags...)
}

// running is a command line that holds the lock while a worker runs.
func running(dir string, flags []string, worker ...string) []string {
	return slices.Concat(on(dir, "run"), flags, []string{"--", executable(), "worker"}, worker)
}

// A proc is a command that runs.
type proc struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of stdout and stderr
	ended bool
}

func start(t *testing.T, cmd *exec.Cmd) *proc {
	t.Helper()
	p := &proc{t: t, cmd: cmd, lines: make(chan string, 64)}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if cmd.Stdin == nil {
		if p.stdin, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() { // ends with the last process that can write
		defer close(p.lines)
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(p.cleanUp)
	return p
}

// cleanUp ends the command, and its COMMAND by the end of its input.
func (p *proc) cleanUp() {
	p.kill()
	if p.stdin != nil {
		p.stdin.Close()
	}
	for line := range p.lines {
		if strings.Contains(line, "a-secret") {
			p.t.Errorf("the identity is told: %s", line)
		}
	}
}

func (p *proc) kill() {
	p.cmd.Process.Kill()
	p.wait()
}

// wait returns the exit code; -1 where a signal ended the command itself.
func (p *proc) wait() int {
	if !p.ended {
		p.ended = true
		stuck := time.AfterFunc(hang, func() { p.cmd.Process.Kill() })
		defer stuck.Stop()
		// Not cmd.Wait, which would close the input that COMMAND may outlive.
		state, err := p.cmd.Process.Wait()
		if err != nil {
			p.t.Error(err)
			return -1
		}
		p.cmd.ProcessState = state
	}
	return p.cmd.ProcessState.ExitCode()
}

// hear returns the next line, and whether there is one.
func (p *proc) hear() (string, bool) {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		return line, ok
	case <-time.After(hang):
		p.t.Fatal("a process says nothing")
		return "", false
	}
}

// expect returns what the next line says behind a prefix.
func (p *proc) expect(prefix string) string {
	p.t.Helper()
	line, _ := p.hear()
	rest, found := strings.CutPrefix(line, prefix)
	if !found {
		p.t.Fatalf("a process says %q, want %q", line, prefix)
	}
	return rest
}

// ping makes sure that COMMAND lives.
func (p *proc) ping() {
	p.t.Helper()
	fmt.Fprintln(p.stdin, "ping")
	p.expect("ping")
}

// hold holds the lock until the test ends, and returns once it is held.
func hold(t *testing.T, dir string, flags ...string) *proc {
	t.Helper()
	p := start(t, flocklock(running(dir, flags, "echo")...))
	p.expect("pid ")
	return p
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: ", what)
		}
	}
}

// object decodes one line of JSON and checks its keys.
func object(t *testing.T, line string, keys ...string) map[string]any {
	t.Helper()
	if strings.Count(line, "\n") != 1 {
		t.Fatalf("not one line: %q", line)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, key := range keys {
		if _, found := got[key]; !found {
			t.Errorf("no key %q in %s", key, line)
		}
	}
	if len(got) != len(keys) {
		t.Errorf("not just the keys %q in %s", keys, line)
	}
	return got
}

// status is what status --json says, checked for its shape.
func status(t *testing.T, dir string) map[string]any {
	t.Helper()
	r := finish(t, flocklock(on(dir, "status", "--json")...))
	got := object(t, r.stdout, "name", "scope", "identity_hash", "state", "standing", "leftover", "record", "message", "holders", "holders_reason")
	if want := map[any]int{"free": 0, "held": 75}[got["state"]]; r.code != want || r.stderr != "" {
		t.Errorf("status: exit code %d, stderr %q with %s", r.code, r.stderr, r.stdout)
	}
	return got
}

func state(t *testing.T, dir string) any {
	t.Helper()
	return status(t, dir)["state"]
}

func hashOf(identity string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(identity)))[:16] }

var name = scope + "-" + hashOf(secret)

// files lists a directory and makes sure that nothing in it tells the identity.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
		// On Windows the lock file cannot be read while it is locked.
		text, _ := os.ReadFile(filepath.Join(dir, entry.Name()))
		if strings.Contains(entry.Name()+string(text), "a-secret") {
			t.Errorf("%s tells the identity: %s", entry.Name(), text)
		}
	}
	return names
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// write makes a file and returns its path.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// putLegacy puts an old gateway's record there, whose process has ended.
func putLegacy(t *testing.T, dir string) {
	t.Helper()
	gone := flocklock("worker", "exit", "0")
	finish(t, gone)
	write(t, filepath.Join(dir, name+".lock"), fmt.Sprintf(
		`{"pid": %d, "kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"], "start_time": null, "updated_at": %q}`,
		gone.Process.Pid, time.Now().UTC().Format("2006-01-02T15:04:05.000000-07:00")))
}

func TestRunExitCode(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1, 7, 75} {
		dir := filepath.Join(t.TempDir(), "new", "locks")
		r := expect(t, code, running(dir, nil, "exit", strconv.Itoa(code))...)
		same(t, "output", r.stdout+r.stderr, "")
		same(t, "files", files(t, dir), []string{name + ".flock"})
		same(t, "state", state(t, dir), "free")
	}
}

func TestRunArguments(t *testing.T) {
	t.Parallel()
	want := fmt.Sprintf("%q\n", []string{"--wait", "a b", "", "--"})
	same(t, "with --", expect(t, 0, running(t.TempDir(), nil, "print", "--wait", "a b", "", "--")...).stdout, want)
	args := slices.Concat(on(t.TempDir(), "run"), []string{executable(), "worker", "print", "--wait", "a b", "", "--"})
	same(t, "without --", expect(t, 0, args...).stdout, want)
}

func TestRunHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := hold(t, dir, "--profile", "work")
	same(t, "files", files(t, dir), []string{name + ".flock", name + ".lock"})
	r := expect(t, 75, running(dir, nil, "print", "started")...)
	same(t, "stdout", r.stdout, "")
	pid := fmt.Sprintf("PID %d, profile work", holder.cmd.Process.Pid)
	if !strings.HasPrefix(r.stderr, "flocklock: "+scope+" is held by ") || !strings.Contains(r.stderr, pid) {
		t.Errorf("no %s in %q", pid, r.stderr)
	}
	holder.ping()
	holder.stdin.Close()
	same(t, "exit code", holder.wait(), 0)
	same(t, "state", state(t, dir), "free")
}

func TestRunWait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := hold(t, dir)
	waiter := start(t, flocklock(running(dir, []string{"--wait", "1h"}, "echo")...))
	waiting := waiter.expect("flocklock: waiting for " + scope + ", held by ")
	if want := fmt.Sprintf("(PID %d) since ", holder.cmd.Process.Pid); !strings.Contains(waiting, want) {
		t.Errorf("waiter says %q", waiting)
	}
	holder.stdin.Close()
	waiter.expect("flocklock: got the lock after ")
	waiter.expect("pid ")
	waiter.stdin.Close()
	same(t, "exit code", waiter.wait(), 0)
}

func TestRunWaitInVain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir)
	for _, wait := range []string{"1ns", "20ms"} {
		r := finish(t, flocklock(running(dir, []string{"--wait", wait}, "echo")...))
		same(t, "exit code", r.code, 75)
		if strings.Contains(r.stderr, "context") || strings.Count(r.stderr, " is held by ") != 1 {
			t.Errorf("stderr: %s", r.stderr)
		}
	}
}

func TestRunReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := hold(t, dir)
	next := start(t, flocklock(running(dir, []string{"--replace"}, "echo")...))
	next.expect("level=WARN msg=\"flocklock: ending the holder of a lock to take it over\" event=ending")
	next.expect("pid ")
	if code := holder.wait(); code == 0 {
		t.Error("the holder ended by itself")
	}
	want := fmt.Sprintf(`"taken_over_from":%d,`, holder.cmd.Process.Pid)
	if got := expect(t, 75, on(dir, "status", "--json")...).stdout; !strings.Contains(got, want) {
		t.Errorf("no %s in %s", want, got)
	}

	// Within a minute nobody takes over what was taken over.
	refused := finish(t, flocklock(running(dir, []string{"--replace"}, "echo")...))
	same(t, "exit code", refused.code, 75)
	if !strings.Contains(refused.stderr, "two gateways that take over from each other") {
		t.Errorf("stderr: %s", refused.stderr)
	}
	next.ping()
	forced := start(t, flocklock(running(dir, []string{"--replace", "--force"}, "echo")...))
	forced.expect("level=WARN ")
	forced.expect("pid ")
	forced.stdin.Close()
	same(t, "exit code", forced.wait(), 0)
}

// 37: there is a command for what users did with rm.
func TestRow37Unlock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	unlock := func(code int, args ...string) result {
		t.Helper()
		return expect(t, code, append([]string{"unlock", "--dir", dir}, args...)...)
	}
	same(t, "all of nothing", unlock(0, "--all").stdout, "")
	same(t, "what nobody ever held", unlock(0, name).stdout, name+" is free: there is no such lock.\n")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("unlock made the directory")
	}
	holder := hold(t, dir)
	for _, args := range [][]string{{name}, {"--scope", scope, "--identity-env", "TOKEN"}} {
		if got := unlock(75, args...).stderr; !strings.Contains(got, "is held by ") ||
			!strings.HasSuffix(got, " To end it: flocklock unlock --dir "+dir+" --end-holder "+name+"\n") {
			t.Errorf("%q: stderr: %s", args, got)
		}
	}
	same(t, "all", unlock(0, "--all").stdout, "")
	holder.ping()
	want := name + " is free. The process that held it has ended.\n"
	same(t, "end the holder", unlock(0, "--end-holder", name).stdout, want)
	putLegacy(t, dir)
	if got := unlock(0, "--all").stdout; !strings.HasPrefix(got, name+" is free. What stood at the record's path is removed: ") {
		t.Errorf("stdout: %s", got)
	}
	same(t, "files", files(t, dir), []string{name + ".flock"})
	for _, args := range [][]string{{}, {"--all", name}, {"--all", "--end-holder"}, {"x"}, {"../" + name}, {"--grace", "0s", name},
		{"--scope", scope}, {name, "--scope", scope, "--identity", secret}} {
		same(t, fmt.Sprint("exit code of ", args), finish(t, flocklock(append([]string{"unlock", "--dir", dir}, args...)...)).code, 64)
	}
}

// 37: what cannot be removed does not keep the rest from it, and is told.
func TestRow37UnlockInPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const other = "irc-0123456789abcdef"
	putLegacy(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, other+".flock"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := expect(t, 1, "unlock", "--dir", dir, "--all")
	if !strings.HasPrefix(r.stdout, name+" is free. What stood") || !strings.Contains(r.stderr, other) {
		t.Errorf("%+v", r)
	}
	if err := os.Mkdir(filepath.Join(dir, name+".lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	r = expect(t, 1, "unlock", "--dir", dir, name)
	if r.stdout != "" || !strings.Contains(r.stderr, "a directory") {
		t.Errorf("%+v", r)
	}
}

// 37: a lock may be named as ls shows it.
func TestRow37UnlockByScope(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putLegacy(t, dir)
	same(t, "by its scope", strings.HasPrefix(expect(t, 0, "unlock", "--dir", dir, scope).stdout, name+" is free. What"), true)
	for _, hash := range []string{"0123456789abcdef", "0123996789abcdef"} {
		write(t, filepath.Join(dir, "irc-"+hash+".flock"), "")
	}
	expect(t, 64, "unlock", "--dir", dir, "irc")
	expect(t, 64, "unlock", "--dir", dir, "irc-0123")
	same(t, "by its first digits", expect(t, 0, "unlock", "--dir", dir, "irc-01239").stdout, "irc-0123996789abcdef is free.\n")
}

func TestRunWaitNotNeeded(t *testing.T) {
	t.Parallel()
	r := expect(t, 3, running(t.TempDir(), []string{"--wait", "1ns"}, "exit", "3")...)
	same(t, "stderr", r.stderr, "")
}

func TestRunReplacesLegacyRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putLegacy(t, dir)
	same(t, "stderr", expect(t, 0, running(dir, nil, "exit", "0")...).stderr, "")
	same(t, "files", files(t, dir), []string{name + ".flock"})
}

func TestRunTellsUnwrittenRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, name+".lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := expect(t, 0, running(dir, nil, "exit", "0")...)
	if !strings.HasPrefix(r.stderr, `level=WARN msg="flocklock: `) {
		t.Errorf("stderr: %s", r.stderr)
	}
}

func TestRunCannotStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, flags := range [][]string{nil, {"--close"}} {
		expect(t, 69, append(on(dir, "run", flags...), "--", missing)...)
		same(t, "files", files(t, dir), []string{})
	}
	broken := write(t, filepath.Join(t.TempDir(), "broken.exe"), "this is no program")
	if err := os.Chmod(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--close"}} {
		r := expect(t, 69, append(on(dir, "run", flags...), "--", broken)...)
		if !strings.Contains(r.stderr, "broken.exe") {
			t.Errorf("stderr: %s", r.stderr)
		}
		same(t, "files", files(t, dir), []string{name + ".flock"})
		same(t, "state", state(t, dir), "free")
	}
}

// TestRunLeavesProcess: what COMMAND leaves running lives on, without the lock.
func TestRunLeavesProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, flocklock(running(dir, nil, "leave")...))
	p.expect("pid ")
	same(t, "exit code", p.wait(), 0)
	same(t, "state", state(t, dir), "free")
	p.ping()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	empty := write(t, filepath.Join(t.TempDir(), "empty"), "\n")
	identity := []string{"--identity-env", "TOKEN"}
	for _, args := range [][]string{
		{},
		{secret},
		{"--" + secret},
		{"status", "--dir", dir},
		{"status", "--dir", dir, "--scope", scope},
		append([]string{"status", "--dir", dir}, identity...),
		append([]string{"status", "--dir", dir, "--scope", "../../evil"}, identity...),
		append([]string{"status", "--dir", "", "--scope", scope}, identity...),
		{"status", "--dir", dir, "--scope", scope, "--identity-env", "TOKEN", "--identity", secret},
		{"status", "--dir", dir, "--scope", scope, "--identity-file", empty, "--identity", secret},
		{"status", "--dir", dir, "--scope", scope, "--identity-file", empty},
		{"status", "--dir", dir, "--scope", scope, "--identity", ""},
		{"status", "--dir", dir, "--scope", scope, "--identity-env", "FLOCKLOCK_TEST_UNSET"},
		{"status", "--dir", dir, "--scope", scope, "--identity-env", "FLOCKLOCK_TEST_EMPTY"},
		{"status", "--dir", dir, "--scope", scope, "--identity-env", ""},
		{"status", "--dir", dir, "--scope", scope, "--identity-env", secret},
		{"status", "--dir", dir, "--scope", scope, "--identity"},
		{"status", "--dir", dir, "--scope", scope, "--=" + secret},
		{"status", "--dir", dir, "--scope", scope, "-identity=" + secret},
		{"status", "--dir", dir, "--scope", scope, "--identity" + secret},
		on(dir, "status", secret),
		on(dir, "status", "--wait", "1s"),
		on(dir, "status", "--json="+secret),
		on(dir, "run"),
		on(dir, "run", "--"),
		{"run", executable(), "--dir", dir, "--scope", scope, "--identity", secret},
		running(dir, []string{"--exec", "--close"}, "echo"),
		running(dir, []string{"--wait", "-1s"}, "echo"),
		running(dir, []string{"--wait", secret}, "echo"),
		running(dir, []string{"--replace", "--grace", "0s"}, "echo"),
		running(dir, []string{"--grace", "1s"}, "echo"),
		running(dir, []string{"--force"}, "echo"),
		running(dir, []string{"--profile", secret}, "echo"),
		{"migrate", "--dir", ""},
		{"migrate", "--dir", dir, secret},
		{"migrate", "--dir", dir, "--scope", scope},
		{"unlock", "--dir", dir, secret},
		{"unlock", "--dir", dir, "--end-holder", secret},
		{"unlock", "--dir", dir, "--grace", "1s", name},
		{"unlock", "--dir", dir, "--force", name},
		{"unlock", "--dir", dir, "--identity", secret, name},
		{"unlock", "--dir", dir, "--all", "--identity", secret},
		{"doctor", "--dir", ""},
		{"doctor", "--dir", dir, secret},
		{"doctor", "--dir", dir, "--scope", scope},
		{"doctor-prober", secret},
		{"demo", secret},
		{"demo-gateway", "--dir", ""},
	} {
		cmd := flocklock(args...)
		cmd.Env = append(cmd.Env, "FLOCKLOCK_TEST_EMPTY=")
		r := finish(t, cmd)
		if r.code != 64 || r.stdout != "" || !strings.HasPrefix(r.stderr, "flocklock: ") || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
		}
	}
	same(t, "files", files(t, dir), []string{})
}

func TestCannotOpen(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "file"), "no directory")
	dir := t.TempDir()
	large := write(t, filepath.Join(t.TempDir(), "large"), strings.Repeat("x", 1<<20))
	for _, args := range [][]string{
		running(file, nil, "echo"),
		running(file, []string{"--wait", "1h"}, "echo"),
		{"demo", "--dir", file},
		{"demo-gateway", "--dir", file},
		{"status", "--dir", dir, "--scope", scope, "--identity-file", filepath.Join(dir, secret)},
		{"status", "--dir", dir, "--scope", scope, "--identity-file", dir},
		{"status", "--dir", dir, "--scope", scope, "--identity-file", large},
	} {
		if r := expect(t, 66, args...); r.stdout != "" || strings.Contains(r.stderr, "xxx") {
			t.Errorf("%q: stdout %q, stderr %q", args, r.stdout, r.stderr)
		}
	}
	if runtime.GOOS == "windows" {
		return // a file in place of the directory counts as no directory there
	}
	expect(t, 66, on(file, "status")...)
	expect(t, 66, "migrate", "--dir", file)
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hashed := func(flag, value string) any {
		t.Helper()
		r := expect(t, 0, "status", "--dir", dir, "--scope", scope, flag, value, "--json")
		var s struct {
			Hash string `json:"identity_hash"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	same(t, "--identity", hashed("--identity", secret), hashOf(secret))
	same(t, "--identity keeps newlines", hashed("--identity", secret+"\n"), hashOf(secret+"\n"))
	same(t, "--identity-env", hashed("--identity-env", "TOKEN"), hashOf(secret))
	file := filepath.Join(t.TempDir(), "identity")
	for text, identity := range map[string]string{
		secret: secret, secret + "\n": secret, secret + "\r\n": secret,
		secret + "\n\n": secret + "\n", secret + "\r": secret + "\r", " " + secret + " \n": " " + secret + " ",
	} {
		same(t, fmt.Sprintf("--identity-file with %q", text), hashed("--identity-file", write(t, file, text)), hashOf(identity))
	}
}

// TestDefaultDir: without --dir the environment decides, and what is odd there
// is told.
func TestDefaultDir(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := []string{"HOME=" + home, "USERPROFILE=" + home, "HERMES_GATEWAY_LOCK_DIR=", "XDG_STATE_HOME=relative"}
	for _, args := range [][]string{
		{"run", "--scope", scope, "--identity-env", "TOKEN", "--", executable(), "worker", "exit", "0"},
		{"status", "--scope", scope, "--identity-env", "TOKEN"},
		{"migrate"},
	} {
		cmd := flocklock(args...)
		cmd.Env = append(cmd.Env, env...)
		r := finish(t, cmd)
		if r.code != 0 || !strings.HasPrefix(r.stderr, `level=WARN msg="flocklock: XDG_STATE_HOME `) {
			t.Errorf("%q: exit code %d, stderr %q", args, r.code, r.stderr)
		}
	}
	same(t, "files", files(t, filepath.Join(home, ".local", "state", "hermes", "gateway-locks")), []string{name + ".flock"})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	s := status(t, dir)
	same(t, "free", s, map[string]any{
		"name": name, "scope": scope, "identity_hash": hashOf(secret), "state": "free", "standing": "",
		"leftover": false, "record": nil, "message": scope + " is free.", "holders": []any{}, "holders_reason": "",
	})
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("status made the directory")
	}
	same(t, "free in words", expect(t, 0, on(dir, "status")...), result{0, scope + " is free.\n", ""})

	holder := hold(t, dir)
	s = status(t, dir)
	same(t, "standing", s["standing"], "verified")
	same(t, "leftover", s["leftover"], false)
	same(t, "record's pid", s["record"].(map[string]any)["pid"], holder.cmd.Process.Pid)
	same(t, "record's argv", s["record"].(map[string]any)["argv"], []string{executable(), "run"})
	words := expect(t, 75, on(dir, "status")...)
	if !strings.HasPrefix(words.stdout, scope+" is held by ") || words.stderr != "" {
		t.Errorf("held in words: %+v", words)
	}

	holder.stdin.Close()
	holder.wait()
	putLegacy(t, dir)
	s = status(t, dir)
	same(t, "state with a leftover", s["state"], "free")
	same(t, "leftover", s["leftover"], true)
	if !strings.Contains(expect(t, 0, on(dir, "status")...).stdout, "was left there") {
		t.Error("status does not tell of the leftover")
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	same(t, "no directory", expect(t, 0, "migrate", "--dir", dir), result{})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	putLegacy(t, dir)
	record := name + ".lock"

	dry := expect(t, 0, "migrate", "--dir", dir, "--dry-run")
	if !strings.HasPrefix(dry.stdout, "removed "+record+": no process has PID ") {
		t.Errorf("--dry-run says %q", dry.stdout)
	}
	same(t, "files after --dry-run", files(t, dir), []string{record})
	done := expect(t, 0, "migrate", "--dir", dir)
	same(t, "what migrate says", done, dry)
	same(t, "files", files(t, dir), []string{name + ".flock"})

	putLegacy(t, dir)
	m := object(t, expect(t, 0, "migrate", "--dir", dir, "--json").stdout, "name", "action", "reason")
	same(t, "name", m["name"], record)
	same(t, "action", m["action"], "removed")

	hold(t, dir)
	m = object(t, expect(t, 0, "migrate", "--dir", dir, "--json").stdout, "name", "action", "reason")
	same(t, "action", m["action"], "skipped-held")
}

func TestMigrateOddNames(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such names")
	}
	dir := t.TempDir()
	odd := "a\x1b[31m\nb\u202e"
	write(t, filepath.Join(dir, odd), "")
	same(t, "words", expect(t, 0, "migrate", "--dir", dir).stdout,
		`kept "a\x1b[31m\nb\u202e": not named as a record is`+"\n")
	m := object(t, expect(t, 0, "migrate", "--dir", dir, "--json").stdout, "name", "action", "reason")
	same(t, "name", m["name"], odd)
}

func TestMigrateInPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putLegacy(t, dir)
	if err := os.Mkdir(filepath.Join(dir, name+".flock"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "README"), "")
	for _, flags := range [][]string{nil, {"--dry-run"}} {
		r := expect(t, 1, append([]string{"migrate", "--dir", dir}, flags...)...)
		if !strings.HasPrefix(r.stdout, "kept README: ") || !strings.Contains(r.stdout, "\nkept "+name+".lock: ") {
			t.Errorf("%q: stdout: %s", flags, r.stdout)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	r := expect(t, 0, "demo", "--dir", parent)
	for _, want := range []string{" is refused: ", " is killed", `"start_time":null`, "is alive", "--dry-run", "nothing is left"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	if steps := strings.Count(r.stdout, "\nok "); steps != 12 || strings.Contains(r.stdout, "FAILED") {
		t.Errorf("%d steps:\n%s", steps, r.stdout)
	}
	same(t, "files", files(t, parent), []string{})
}

func TestDemoFails(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	cmd := flocklock("demo", "--dir", parent)
	cmd.Env = append(cmd.Env, sabotageEnv+"=demo-gateway")
	r := finish(t, cmd)
	same(t, "exit code", r.code, 1)
	if !strings.Contains(r.stdout, "\nFAILED ") || r.stderr != "flocklock: a step of the demo failed\n" {
		t.Errorf("stdout: %s\nstderr: %s", r.stdout, r.stderr)
	}
	same(t, "files", files(t, parent), []string{})
}

func TestHelp(t *testing.T) {
	t.Parallel()
	root := expect(t, 0, "--help").stdout
	for _, want := range []string{"\n    0 ", "\n    1 ", "\n    64 ", "\n    66 ", "\n    69 ", "\n    75 ", "\n    128+n ", "completion ", "demo ", "docs ", "doctor ", "ls ", "migrate ", "run ", "status "} {
		if !strings.Contains(root, want) {
			t.Errorf("no %q in\n%s", want, root)
		}
	}
	for _, hidden := range []string{"demo-gateway", "doctor-prober", "__complete"} {
		if strings.Contains(root, hidden) {
			t.Errorf("%q in\n%s", hidden, root)
		}
	}
	for _, sub := range []string{"demo", "doctor", "ls", "migrate", "run", "status"} {
		if r := expect(t, 0, sub, "--help"); !strings.Contains(r.stdout, "--dir ") || r.stderr != "" {
			t.Errorf("%s --help: %+v", sub, r)
		}
	}
	if v := expect(t, 0, "--version").stdout; !strings.HasPrefix(v, "flocklock version ") {
		t.Errorf("--version: %q", v)
	}
}
