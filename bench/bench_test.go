package bench_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/gofrs/flock"
	"github.com/nightlyone/lockfile"
)

const (
	holderEnv = "FLOCKLOCK_BENCH_HOLDER" // the directory; makes the test binary a holder
	scope     = "telegram-bot-token"
	secret    = "123456:a-secret-token"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if dir := os.Getenv(holderEnv); dir != "" {
		hold(flocklock.Dir(dir))
		return
	}
	os.Exit(m.Run())
}

// hold takes the lock, says so, and keeps it until standard input ends.
func hold(dir flocklock.Dir) {
	lock, err := dir.TryAcquire(scope, secret)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(lock.Path())
	io.Copy(io.Discard, os.Stdin)
	lock.Release()
}

// A holder is a process that holds the lock of a directory.
type holder struct {
	cmd  *exec.Cmd
	path string // of the lock file
}

// startHolder returns a process that holds the lock until the benchmark ends.
func startHolder(b *testing.B, dir string) holder {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holderEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	path := strings.TrimSuffix(line, "\n")
	if err != nil || !strings.HasSuffix(path, ".flock") {
		b.Fatalf("the holder said %q, %v", line, err)
	}
	return holder{cmd, path}
}

func recordOf(lockPath string) string { return strings.TrimSuffix(lockPath, ".flock") + ".lock" }

// acquireRelease takes and releases flocklock's lock once.
func acquireRelease(dir flocklock.Dir) error {
	lock, err := dir.TryAcquire(scope, secret)
	if err != nil {
		return err
	}
	return errors.Join(lock.RecordErr(), lock.Release())
}

// A contender makes, in a directory of its own, the operation that is measured.
type contender struct {
	name string
	make func(b *testing.B, dir string) func() error
}

var acquirers = []contender{
	{"flocklock", func(_ *testing.B, dir string) func() error {
		return func() error { return acquireRelease(flocklock.Dir(dir)) }
	}},
	{"bare", func(b *testing.B, dir string) func() error {
		lock, err := flocklock.Dir(dir).TryAcquire(scope, secret)
		if err != nil {
			b.Fatal(err)
		}
		text, err := os.ReadFile(recordOf(lock.Path()))
		if err = errors.Join(err, lock.Release()); err != nil {
			b.Fatal(err)
		}
		return newBare(b, lock.Path(), recordOf(lock.Path()), text)
	}},
	{"gofrs", func(_ *testing.B, dir string) func() error {
		path := filepath.Join(dir, "a.flock")
		return func() error {
			lock := flock.New(path)
			if locked, err := lock.TryLock(); !locked {
				return errors.Join(errors.New("gofrs: not locked"), err)
			}
			return lock.Unlock()
		}
	}},
	{"nightlyone", func(_ *testing.B, dir string) func() error {
		path := filepath.Join(dir, "a.pid")
		return func() error {
			lock, err := lockfile.New(path)
			if err == nil {
				err = lock.TryLock()
			}
			if err != nil {
				return err
			}
			return lock.Unlock()
		}
	}},
}

// record is what somebody who reads a record without flocklock would decode.
type record struct {
	PID          int            `json:"pid"`
	Kind         string         `json:"kind"`
	Argv         []string       `json:"argv"`
	StartTime    *int64         `json:"start_time"`
	Scope        string         `json:"scope"`
	IdentityHash string         `json:"identity_hash"`
	Metadata     map[string]any `json:"metadata"`
	UpdatedAt    string         `json:"updated_at"`
	Format       int            `json:"format"`
	ID           string         `json:"id"`
	AcquiredAt   string         `json:"acquired_at"`
	Host         string         `json:"host"`
	BootID       string         `json:"boot_id"`
	PIDNamespace string         `json:"pid_ns"`
}

// refusers are refused by another process, and say by which.
var refusers = []contender{
	{"flocklock", func(b *testing.B, dir string) func() error {
		pid := startHolder(b, dir).cmd.Process.Pid
		return func() error {
			_, err := flocklock.Dir(dir).TryAcquire(scope, secret)
			var refused *flocklock.HeldError
			if !errors.As(err, &refused) || refused.Holder.Standing != flocklock.StandingVerified || refused.Holder.Record.PID != pid {
				return fmt.Errorf("not refused by the holder: %v", err)
			}
			return nil
		}
	}},
	{"gofrs+read", func(b *testing.B, dir string) func() error {
		holder := startHolder(b, dir)
		pid, path, recordPath := holder.cmd.Process.Pid, holder.path, recordOf(holder.path)
		return func() error {
			if locked, err := flock.New(path).TryLock(); locked || err != nil {
				return fmt.Errorf("gofrs: locked %t, %v", locked, err)
			}
			text, err := os.ReadFile(recordPath)
			if err != nil {
				return err
			}
			var r record
			if err := json.Unmarshal(text, &r); err != nil || r.PID != pid {
				return fmt.Errorf("not the holder's record: %s, %v", text, err)
			}
			return nil
		}
	}},
}

func BenchmarkAcquireRelease(b *testing.B) { each(b, acquirers) }

func BenchmarkRefused(b *testing.B) { each(b, refusers) }

func each(b *testing.B, contenders []contender) {
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			do := c.make(b, b.TempDir())
			if err := do(); err != nil { // makes what the later ones find
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAcquireReleaseAfterCrash takes a lock whose last holder was killed
// and left its record.
func BenchmarkAcquireReleaseAfterCrash(b *testing.B) {
	dir := b.TempDir()
	dead := startHolder(b, dir)
	dead.cmd.Process.Kill()
	dead.cmd.Wait()
	left, err := os.ReadFile(recordOf(dead.path))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		if err := os.WriteFile(recordOf(dead.path), left, 0o644); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := acquireRelease(flocklock.Dir(dir)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRatios says how many times as long flocklock takes as others do.
// The contenders run in turns of a few milliseconds, in random order, so that a
// noisy machine disturbs them alike, and of each the median turn counts. The
// aims are acquire/bare ≤ 1.3, acquire/nightlyone < 1, refused/gofrs+read ≤ 3;
// nothing fails where one is missed, for a machine may be busy. What it calls
// an operation is one turn of each: 200 of them give a steady median.
//
//	go test -run '^$' -bench Ratios -benchtime 200x ./bench
//
// TMPDIR chooses the file system, which decides what a new file costs: ext4
// without a journal looks at all files that were deleted near it in the last
// minutes, so that each run makes the next one slower.
func BenchmarkRatios(b *testing.B) {
	const operations = 50 // a turn
	var do []func() error
	prepare := func(c contender, dir string) {
		op := c.make(b, dir)
		if err := op(); err != nil {
			b.Fatal(err)
		}
		do = append(do, op)
	}
	shared := b.TempDir() // what a new file costs may depend on where it is
	for _, c := range acquirers {
		prepare(c, shared)
	}
	for _, c := range refusers {
		prepare(c, b.TempDir())
	}
	turns := make([][]float64, len(do)) // nanoseconds an operation
	for b.Loop() {
		for _, i := range rand.Perm(len(do)) {
			start := time.Now()
			for range operations {
				if err := do[i](); err != nil {
					b.Fatal(err)
				}
			}
			turns[i] = append(turns[i], float64(time.Since(start).Nanoseconds())/operations)
		}
	}
	median := func(i int) float64 {
		slices.Sort(turns[i])
		return turns[i][len(turns[i])/2]
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	acquire := median(0)
	b.ReportMetric(acquire, "acquire-ns")
	for i, c := range acquirers[1:] {
		b.ReportMetric(acquire/median(1+i), "acquire/"+c.name)
	}
	refused := median(len(acquirers))
	b.ReportMetric(refused, "refused-ns")
	for i, c := range refusers[1:] {
		b.ReportMetric(refused/median(len(acquirers)+1+i), "refused/"+c.name)
	}
}

// TestNoGoroutine sees that a lock which is free costs no goroutine.
func TestNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	lock, err := flocklock.Dir(t.TempDir()).TryAcquire(scope, secret)
	if err != nil {
		t.Fatal(err)
	}
	held := runtime.NumGoroutine()
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if after := runtime.NumGoroutine(); held > before || after > before {
		t.Errorf("%d goroutines before, %d while it was held, %d after", before, held, after)
	}
}
