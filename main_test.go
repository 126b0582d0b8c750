package flocklock_test

// The test binary is every process of these tests: TestMain turns into a
// worker where the environment says so. A worker tells its state by lines on
// its standard output and ends when its standard input does, so that no test
// waits for a time.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/shirou/gopsutil/v3/process"
)

const (
	workerEnv = "FLOCKLOCK_TEST_WORKER"
	scope     = "telegram-bot-token"
	secret    = "123456:a-secret-token"

	// hang is how long a test waits for what must happen. It is no measure of
	// speed: a machine may be busy.
	hang = time.Minute
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if mode := os.Getenv(workerEnv); mode != "" {
		work, known := workers[mode]
		if !known {
			fmt.Println("no such worker:", mode)
			os.Exit(2)
		}
		work(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var workers = map[string]func(args []string){
	// idle does nothing: a stranger that has some PID.
	"idle": func([]string) {
		fmt.Println("ready")
		waitForParent()
	},

	// answer says that it is there whenever it is asked.
	"answer": func([]string) {
		fmt.Println("ready")
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			fmt.Println("here")
		}
	},

	// try tries once to take a lock, from one thread, and stays.
	"try": func(args []string) {
		runtime.LockOSThread() // strace counts the calls of each thread
		_, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		fmt.Println(describe(err))
		waitForParent()
	},

	// deaf-answer is answer that does not heed a request to end.
	"deaf-answer": func([]string) {
		signal.Ignore(endRequests...)
		fmt.Println("ready")
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			fmt.Println("here")
		}
	},

	// deaf takes a lock and does not heed a request to end.
	"deaf": func(args []string) {
		signal.Ignore(endRequests...)
		keep(flocklock.Dir(args[0]).TryAcquire(args[1], args[2]))
	},

	// polite takes a lock and gives it back when it is asked to end.
	"polite": func(args []string) {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, endRequests...)
		l, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		fmt.Println("held")
		<-asked
		fmt.Println("draining")
		fmt.Println("released", l.Release())
	},

	// take-over takes a lock over.
	"take-over": func(args []string) {
		signal.Ignore(endRequests...)
		keep(flocklock.Dir(args[0]).TakeOver(context.Background(), args[1], args[2], flocklock.TakeOverOptions{Grace: time.Millisecond}))
	},

	// hold takes a lock, tells how that went, and gives it back at the end.
	"hold": func(args []string) {
		l, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		fmt.Println("held")
		waitForParent()
		fmt.Println("released", l.Release())
	},

	// wait waits for a lock, and tells when it does and when it has got it.
	"wait": func(args []string) {
		dir := flocklock.Dir(args[0])
		if _, err := dir.TryAcquire(args[1], args[2]); err == nil {
			fmt.Println("it is free")
			return
		}
		go func() { // ends with the process
			for {
				if _, parked := flocklock.Waiting(dir, name); parked {
					fmt.Println("waiting")
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		l, err := dir.Acquire(context.Background(), args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		fmt.Println("held")
		waitForParent()
		fmt.Println("released", l.Release())
	},

	// wait-for-gateway waits for an old gateway, and tells when it knows which.
	"wait-for-gateway": func(args []string) {
		l, err := flocklock.Dir(args[0]).Acquire(context.Background(), args[1], args[2],
			flocklock.OnWait(func(flocklock.Wait) { fmt.Println("waiting") }))
		keep(l, err)
	},

	// check takes a lock and checks it whenever it is told to.
	"check": func(args []string) {
		l, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		fmt.Println("held")
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			fmt.Println(describe(l.Check()))
		}
		l.Release()
	},

	// give-up waits for a lock until a context ends.
	"give-up": func(args []string) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		l, err := flocklock.Dir(args[0]).Acquire(ctx, args[1], args[2])
		fmt.Println("gave up", l == nil && errors.Is(err, context.DeadlineExceeded), err)
		waitForParent()
	},

	// hold-many takes so many locks.
	"hold-many": func(args []string) {
		n, _ := strconv.Atoi(args[1])
		for i := range n {
			if _, err := flocklock.Dir(args[0]).TryAcquire(scope, strconv.Itoa(i)); err != nil {
				fmt.Println(describe(err))
				return
			}
		}
		fmt.Println("held")
		waitForParent()
	},

	// contend tries, whenever it is told to, for the lock of a directory; see
	// contender.
	"contend": func([]string) {
		contender(func(dir flocklock.Dir) (string, func() string) {
			l, err := dir.TryAcquire(scope, secret)
			if err != nil {
				return describe(err), nil
			}
			return "held", func() string {
				check := describe(l.Check())
				l.Release()
				return check
			}
		})
	},

	// inherit takes a lock and leaves a child behind that outlives it; the
	// child is given the open lock file where args[3] says so.
	"inherit": func(args []string) {
		l, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		child := exec.Command(executable(), "-child-of-inherit")
		child.Env = append(os.Environ(), workerEnv+"=idle")
		child.Stdin, child.Stdout = os.Stdin, os.Stdout
		if args[3] == "give" {
			file, err := l.File()
			if err != nil {
				fmt.Println(describe(err))
				return
			}
			child.ExtraFiles = []*os.File{file}
		}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("held")
		child.Wait()
	},

	// migrate migrates a directory and tells of each file.
	"migrate": func(args []string) {
		report, err := flocklock.Dir(args[0]).Migrate(flocklock.MigrateOptions{})
		for _, m := range report {
			fmt.Println(m.Action, m.Name, m.Reason)
		}
		fmt.Println(describe(err))
	},

	// ephemeral ends at once: its PID is soon another's.
	"ephemeral": func([]string) {},

	"old":    oldGateway,
	"stress": stressWorker,
}

// endRequests are the signals that ask a process to end.
var endRequests = []os.Signal{os.Interrupt, syscall.SIGTERM}

// keep keeps a lock, answering, until standard input ends.
func keep(l *flocklock.Lock, err error) {
	if err != nil {
		fmt.Println(describe(err))
		return
	}
	fmt.Println("held")
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		fmt.Println("here")
	}
	fmt.Println("released", l.Release())
}

func waitForParent() { io.Copy(io.Discard, os.Stdin) }

// contender is a worker's loop. "go NANOSECONDS DIRECTORY" makes it try at that
// moment and say how that went; "drop" makes it give up what it got, if
// anything, and say what it had by then.
func contender(try func(flocklock.Dir) (outcome string, drop func() string)) {
	fmt.Println("ready")
	var drop func() string
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		fields := strings.SplitN(scan.Text(), " ", 3)
		outcome := "nothing"
		switch {
		case fields[0] == "go":
			at, _ := strconv.ParseInt(fields[1], 10, 64)
			for time.Now().UnixNano() < at { // so that all try at once
			}
			outcome, drop = try(flocklock.Dir(fields[2]))
		case drop != nil:
			outcome, drop = drop(), nil
		}
		fmt.Println(outcome)
	}
}

func describe(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, flocklock.ErrHeld):
		var refused *flocklock.HeldError
		errors.As(err, &refused)
		return fmt.Sprintf("refused %s: %v", refused.Holder.Standing, err)
	case errors.Is(err, flocklock.ErrLost):
		return fmt.Sprint("lost: ", err)
	}
	return fmt.Sprint("error: ", err)
}

// executable is read once: a test may take /proc away.
var executable = sync.OnceValue(func() string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exe
})

// A proc is a worker and what its parent knows of it.
type proc struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	done  bool
}

// spawn starts a worker; change may alter how. It tries a few times: under Wine a
// process sometimes does not come to life, which says nothing about a lock.
func spawn(t *testing.T, mode string, args []string, change ...func(*exec.Cmd)) *proc {
	t.Helper()
	for tries := 1; ; tries++ {
		p, err := start(t, mode, args, change...)
		if err == nil {
			return p
		}
		if tries == 5 {
			t.Fatal(err)
		}
		t.Logf("a worker did not start, tried again: %v", err)
	}
}

// start makes one try.
func start(t *testing.T, mode string, args []string, change ...func(*exec.Cmd)) (*proc, error) {
	cmd := exec.Command(executable(), args...)
	// The race detector would let every worker sleep for a second at its end.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", workerEnv+"="+mode)
	cmd.Stderr = os.Stderr
	for _, c := range change {
		c(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proc{t: t, cmd: cmd, stdin: stdin, lines: make(chan string, 16)}
	go func() { // ends with the worker, which closes its output
		defer close(p.lines)
		for scan := bufio.NewScanner(stdout); scan.Scan(); {
			p.lines <- scan.Text()
		}
	}()
	t.Cleanup(p.kill)
	return p, nil
}

// as makes a worker's command line begin with words of our choice.
func as(words ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Args = append(words, cmd.Args[1:]...) }
}

// gateway is a process that looks like an old gateway and holds nothing.
func gateway(t *testing.T) *proc {
	p := spawn(t, "idle", nil, as("hermes-gateway"))
	p.expect("ready")
	return p
}

// stranger is a process that does not look like a gateway.
func stranger(t *testing.T) *proc {
	p := spawn(t, "idle", nil)
	p.expect("ready")
	return p
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

// line returns the worker's next line, or "" when it has ended.
func (p *proc) line() string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(hang):
		p.t.Fatal("a worker says nothing")
		return ""
	}
}

func (p *proc) expect(prefix string) string {
	p.t.Helper()
	line := p.line()
	if !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("worker said %q, want %q", line, prefix)
	}
	return line
}

func (p *proc) tell(line string) { fmt.Fprintln(p.stdin, line) }

// kill ends the worker as SIGKILL does, and reaps it.
func (p *proc) kill() {
	if p.done {
		return
	}
	p.done = true
	p.cmd.Process.Kill()
	p.stdin.Close() // a child of the worker may wait for that
	for range p.lines {
	}
	p.cmd.Wait()
}

// finish lets the worker end by itself, and returns what it still said.
func (p *proc) finish() string {
	p.done = true
	p.stdin.Close()
	var rest []string
	for line := range p.lines {
		rest = append(rest, line)
	}
	p.cmd.Wait()
	return strings.Join(rest, "\n")
}

// newDir is a lock directory that exists.
func newDir(t *testing.T) flocklock.Dir {
	t.Helper()
	return flocklock.Dir(t.TempDir())
}

// files names what is in a directory.
func files(t *testing.T, dir flocklock.Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

const name = scope + "-" + "0e0cf2ce43b0a59a"

func lockPath(dir flocklock.Dir) string   { return filepath.Join(string(dir), name+".flock") }
func recordPath(dir flocklock.Dir) string { return filepath.Join(string(dir), name+".lock") }

// put writes something where the record stands.
func put(t *testing.T, dir flocklock.Dir, text string) {
	t.Helper()
	if err := os.WriteFile(recordPath(dir), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// legacy is a lockfile of an old gateway. Keys whose value is drop are left out.
type legacy map[string]any

var drop = new(int)

func putLegacy(t *testing.T, dir flocklock.Dir, pid int, changes legacy) {
	t.Helper()
	put(t, dir, legacyText(t, pid, changes))
}

func legacyText(t *testing.T, pid int, changes legacy) string {
	t.Helper()
	record := legacy{
		"pid": pid, "kind": "hermes-gateway", "argv": []string{"hermes", "gateway", "run"}, "start_time": nil,
		"scope": scope, "identity_hash": name[len(scope)+1:], "metadata": legacy{"platform": "telegram"},
		"updated_at": isoNow(0),
	}
	for key, value := range changes {
		if record[key] = value; value == drop {
			delete(record, key)
		}
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// isoNow is a time as an old gateway writes it.
func isoNow(shift time.Duration) string {
	return time.Now().Add(shift).UTC().Format("2006-01-02T15:04:05.000000+00:00")
}

// startOf is the start time of a process as an old gateway of today records it.
// It is read independently of the package.
func startOf(t *testing.T, pid int) int64 {
	t.Helper()
	if runtime.GOOS == "linux" {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		start, err := strconv.ParseInt(fields[19], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return start
	}
	ms, err := (&process.Process{Pid: int32(pid)}).CreateTime()
	if err != nil {
		t.Fatal(err)
	}
	return (ms + 5) / 10
}

// promptly runs what must not hang.
func promptly[T any](t *testing.T, do func() T) T {
	t.Helper()
	result := make(chan T, 1)
	go func() { result <- do() }()
	select {
	case r := <-result:
		return r
	case <-time.After(hang):
		t.Fatal("it hangs")
		panic("unreachable")
	}
}

type acquired struct {
	lock *flocklock.Lock
	err  error
}

func tryAcquire(t *testing.T, dir flocklock.Dir, opts ...flocklock.Option) (*flocklock.Lock, error) {
	t.Helper()
	a := promptly(t, func() acquired {
		l, err := dir.TryAcquire(scope, secret, opts...)
		return acquired{l, err}
	})
	if a.lock != nil {
		t.Cleanup(func() { a.lock.Release() })
	}
	return a.lock, a.err
}

// mustAcquire takes the lock, with its record, and gives it back.
func mustAcquire(t *testing.T, dir flocklock.Dir) *flocklock.Lock {
	t.Helper()
	l, err := tryAcquire(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.RecordErr(); err != nil {
		t.Fatalf("no record: %v", err)
	}
	return l
}

// mustRefuse tries to take the lock and returns who holds it.
func mustRefuse(t *testing.T, dir flocklock.Dir, want flocklock.Standing) *flocklock.HeldError {
	t.Helper()
	_, err := tryAcquire(t, dir)
	var refused *flocklock.HeldError
	if !errors.As(err, &refused) || !errors.Is(err, flocklock.ErrHeld) {
		t.Fatalf("err = %v, want a HeldError", err)
	}
	if refused.Holder.Standing != want {
		t.Fatalf("standing %q, want %q: %v", refused.Holder.Standing, want, err)
	}
	return refused
}

// mustSettle acquires and releases, and sees that nothing but the lock file is
// left.
func mustSettle(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	if err := mustAcquire(t, dir).Release(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || got[0] != name+".flock" {
		t.Fatalf("left behind: %q", got)
	}
}

func mustPathError(t *testing.T, err error) *fs.PathError {
	t.Helper()
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Path == "" || pathErr.Op == "" {
		t.Fatalf("err = %v, want an fs.PathError", err)
	}
	return pathErr
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
