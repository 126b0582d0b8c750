//go:build linux

package chaos

// The test binary is every process of this test: TestMain turns into a worker
// where the environment says so. A worker tells of its deed by one line of JSON
// on its standard output, and ends when its standard input does.

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
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

const (
	workerEnv = "FLOCKLOCK_CHAOS_WORKER"
	dirEnv    = "HERMES_GATEWAY_LOCK_DIR"

	scope  = "telegram-bot-token"
	secret = "123456:a-secret-token"
	name   = scope + "-0e0cf2ce43b0a59a"
	other  = "irc-0e0cf2ce43b0a59a" // the lock of the same identity in another scope

	// Files that are not there; to look at one leaves a mark in strace's log.
	beginMark = "mark.begin"
	endMark   = "mark.end"

	// hang is how long what must happen may take on a busy machine.
	hang = 30 * time.Second
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	mode := os.Getenv(workerEnv)
	if mode == "" {
		os.Exit(m.Run())
	}
	// strace counts the calls of each thread.
	runtime.LockOSThread()
	work(mode, flocklock.Dir(os.Getenv(dirEnv)))
	os.Exit(0)
}

// A report is what a worker tells of its deed.
type report struct {
	Holds   bool   // the lock, after the deed
	Error   string // of the deed; "" where it succeeded
	Record  string // why there is no record
	Refused bool   // the error says that somebody holds it
	Nobody  string // an error that names no path and operation; must be ""
	Left    string // an error of what the worker did afterwards, without a fault
}

// complain puts an error into a report.
func (r *report) complain(err error) string {
	if err == nil {
		return ""
	}
	r.Refused = errors.Is(err, flocklock.ErrHeld)
	if !named(err) {
		r.Nobody = err.Error()
	}
	return err.Error()
}

// named reports whether an error says what was done to which file, or who holds
// the lock.
func named(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.Is(err, flocklock.ErrHeld) || errors.Is(err, flocklock.ErrLost):
		return true
	case errors.As(err, &path):
		return path.Path != "" && path.Op != ""
	case errors.As(err, &link):
		return link.Old != "" && link.New != "" && link.Op != ""
	}
	return false
}

func (r report) tell() {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func work(mode string, dir flocklock.Dir) {
	switch mode {
	case "idle":
		fmt.Println("{}")
		io.Copy(io.Discard, os.Stdin)
	case "fresh":
		fresh(dir)
	case "acquire":
		keep(dir, func() (*flocklock.Lock, error) { return dir.TryAcquire(scope, secret) })
	case "take-over":
		keep(dir, func() (*flocklock.Lock, error) {
			return dir.TakeOver(context.Background(), scope, secret, flocklock.TakeOverOptions{Grace: hang})
		})
	case "wait":
		keep(dir, func() (*flocklock.Lock, error) { return dir.Acquire(context.Background(), scope, secret) })
	case "release":
		release(dir)
	case "check":
		check(dir)
	case "migrate":
		migrate(dir)
	default:
		fmt.Println("no such worker:", mode)
		os.Exit(2)
	}
}

// mark leaves a mark in strace's log.
func mark(dir flocklock.Dir, what string) {
	unix.Access(filepath.Join(string(dir), what), unix.F_OK)
}

// marked does a deed between two marks.
func marked(dir flocklock.Dir, deed func() error) error {
	mark(dir, beginMark)
	defer mark(dir, endMark)
	return deed()
}

// keep takes a lock and keeps it until standard input ends.
func keep(dir flocklock.Dir, acquire func() (*flocklock.Lock, error)) {
	var lock *flocklock.Lock
	err := marked(dir, func() (err error) {
		lock, err = acquire()
		return err
	})
	r := report{Holds: lock != nil}
	r.Error = r.complain(err)
	if lock != nil {
		r.Record = r.complain(lock.RecordErr())
	}
	r.tell()
	io.Copy(io.Discard, os.Stdin)
	if lock != nil {
		lock.Release() // strace may still make a call of this fail
	}
}

// release gives a lock back.
func release(dir flocklock.Dir) {
	lock, err := dir.TryAcquire(scope, secret)
	if err != nil {
		panic(err)
	}
	err = marked(dir, lock.Release)
	var r report
	r.Error = r.complain(err)
	if err := lock.Release(); err != nil {
		r.Left = err.Error()
	}
	r.tell()
	io.Copy(io.Discard, os.Stdin)
}

// check checks a lock whose record was removed.
func check(dir flocklock.Dir) {
	lock, err := dir.TryAcquire(scope, secret)
	if err != nil {
		panic(err)
	}
	if err := os.Remove(filepath.Join(string(dir), name+".lock")); err != nil {
		panic(err)
	}
	err = marked(dir, lock.Check)
	r := report{Holds: !errors.Is(err, flocklock.ErrLost)}
	r.Error = r.complain(err)
	r.Record = r.complain(lock.RecordErr())
	switch again := lock.Check(); { // what failed once is made good
	case again != nil:
		r.Left = again.Error()
	case lock.RecordErr() != nil:
		r.Left = lock.RecordErr().Error()
	case !r.Holds: // as Check said to do
		lock.Release()
	}
	r.tell()
	io.Copy(io.Discard, os.Stdin)
	lock.Release()
}

func migrate(dir flocklock.Dir) {
	err := marked(dir, func() error {
		_, err := dir.Migrate(flocklock.MigrateOptions{})
		return err
	})
	var r report
	r.Error = r.complain(err)
	r.tell()
	io.Copy(io.Discard, os.Stdin)
}

// fresh is a new process that takes the lock without help. When it is told to,
// it gives the lock back and migrates the directory.
func fresh(dir flocklock.Dir) {
	lock, err := dir.TryAcquire(scope, secret)
	r := report{Holds: lock != nil}
	r.Error = r.complain(err)
	if lock != nil {
		r.Record = r.complain(lock.RecordErr())
	}
	r.tell()
	io.Copy(io.Discard, os.Stdin)
	if lock == nil {
		return
	}
	var after report
	after.Error = after.complain(lock.Release())
	_, err = dir.Migrate(flocklock.MigrateOptions{})
	after.Left = after.complain(err)
	after.tell()
}

// A proc is a worker and what its parent knows of it.
type proc struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	reports chan report // closed when the worker has ended
	said    chan struct{}
	errors  *capped
	strange chan string // a line that is no report
}

// capped keeps the beginning of what is written to it.
type capped struct{ text []byte }

func (c *capped) Write(p []byte) (int, error) {
	const limit = 4 << 10
	c.text = append(c.text, p[:min(len(p), limit-min(limit, len(c.text)))]...)
	return len(p), nil
}

// worker is the command of a worker, not started.
func worker(mode string, dir flocklock.Dir) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe)
	// The race detector would let every worker sleep for a second at its end.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", workerEnv+"="+mode, dirEnv+"="+string(dir))
	return cmd
}

func start(cmd *exec.Cmd) (*proc, error) {
	p := &proc{cmd: cmd, reports: make(chan report, 4), said: make(chan struct{}), errors: &capped{}, strange: make(chan string, 1)}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = p.errors
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for strace does not take its tracee along
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(stdout) // ends with the worker, which closes its output
	return p, nil
}

func (p *proc) listen(stdout io.Reader) {
	defer close(p.reports)
	said := func() {}
	said = func() { close(p.said); said = func() {} }
	defer func() { said() }()
	for scan := bufio.NewScanner(stdout); scan.Scan(); {
		var r report
		if err := json.Unmarshal(scan.Bytes(), &r); err != nil {
			select {
			case p.strange <- scan.Text():
			default:
			}
			continue
		}
		p.reports <- r
		said()
	}
}

var errSilent = errors.New("a worker says nothing and does not end")

// report returns the worker's next report. ended means that there is none.
func (p *proc) report() (r report, ended bool, err error) {
	select {
	case r, open := <-p.reports:
		return r, !open, nil
	case <-time.After(hang):
		return report{}, false, errSilent
	}
}

// finish lets the worker end by itself.
func (p *proc) finish() error {
	p.stdin.Close()
	for deadline := time.After(hang); ; {
		select {
		case _, open := <-p.reports:
			if !open {
				p.cmd.Wait() // how it ended is known from its reports
				return nil
			}
		case <-deadline:
			p.kill()
			return errSilent
		}
	}
}

// kill ends the worker as SIGKILL does, and reaps it.
func (p *proc) kill() {
	unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	p.stdin.Close()
	for range p.reports {
	}
	p.cmd.Wait()
}
