package flocklock_test

// The lock: what acquire, release, check and inspect promise, and what they do
// on bad input and bad days. Numbers are rows of the catalogue of failures of
// the old lock.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/gofrs/flock"
)

func TestAcquireRefuseRelease(t *testing.T) {
	dir := flocklock.Dir(filepath.Join(t.TempDir(), "made", "on the way"))
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")

	refused := mustRefuse(t, dir, flocklock.StandingVerified)
	if refused.Scope != scope || refused.Holder.Record.PID != holder.pid() || refused.Holder.Self() {
		t.Errorf("refused by %+v", refused.Holder)
	}
	if other, err := dir.TryAcquire(scope, "another token"); err != nil {
		t.Errorf("another identity: %v", err)
	} else {
		other.Release()
	}
	if got := holder.finish(); got != "released <nil>" {
		t.Errorf("holder: %q", got)
	}
	mustAcquire(t, flocklock.Dir(filepath.Join(string(dir), "..", "on the way")))
	if info, err := os.Stat(string(dir)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

func TestRecord(t *testing.T) {
	dir := newDir(t)
	l, err := dir.TryAcquire(scope, secret, flocklock.WithMetadata(map[string]any{"platform": "telegram"}),
		flocklock.WithProfile("work"), flocklock.WithHermesHome("/home/u/.hermes"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	text := readFile(t, recordPath(dir))
	if strings.Contains(text, secret) || strings.Contains(text, "-test.") || strings.Contains(readFile(t, recordPathOfWorker(t)), secret) {
		t.Errorf("the identity or a flag is in the record: %s", text)
	}
	var keys map[string]any
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"pid", "kind", "argv", "start_time", "scope", "identity_hash", "metadata", "updated_at",
		"hermes_home", "profile", "format", "id", "acquired_at", "host"} {
		if keys[key] == nil {
			t.Errorf("%s is missing or null in %s", key, text)
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000+00:00", keys["updated_at"].(string)); err != nil {
		t.Error(err)
	}
	var r flocklock.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if r.PID != os.Getpid() || *r.StartTime != startOf(t, os.Getpid()) || r.Format != 2 || r.Profile != "work" ||
		r.IdentityHash != name[len(scope)+1:] || !r.AcquiredAt.Equal(l.Record().AcquiredAt) || r.ID != l.Record().ID {
		t.Errorf("record: %+v", r)
	}
	if filepath.Base(l.Path()) != name+".flock" {
		t.Errorf("path: %s", l.Path())
	}
}

// recordPathOfWorker is the record of a process that was given the identity as
// a plain argument.
func recordPathOfWorker(t *testing.T) string {
	dir := newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	return recordPath(dir)
}

// A directory that is not absolute is the same one after the program went to
// another.
func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := flocklock.Dir("locks").TryAcquire(scope, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("locks")
	t.Chdir(t.TempDir())
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if got := files(t, flocklock.Dir(filepath.Dir(l.Path()))); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

// A record that was touched is still ours to remove.
func TestReleaseAfterTouch(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(recordPath(dir), now, now); err != nil {
		t.Fatal(err)
	}
	l.Release()
	mustSettle(t, dir)
}

func TestSameProcess(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	if refused := mustRefuse(t, dir, flocklock.StandingSelf); !refused.Holder.Self() {
		t.Error("not self")
	}
	status, err := dir.Inspect(scope, secret)
	if err != nil || status.Holder.Standing != flocklock.StandingSelf || status.State != flocklock.Held {
		t.Errorf("%+v, %v", status, err)
	}
	for range 2 {
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Check(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("check after release: %v", err)
	}
	if _, err := l.File(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("file after release: %v", err)
	}
	mustSettle(t, dir)
}

// A lock that the program forgot stays held: no finalizer closes its file.
func TestForgottenLockStaysHeld(t *testing.T) {
	dir := newDir(t)
	if _, err := dir.TryAcquire(scope, secret); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		runtime.GC()
	}
	refused := spawn(t, "hold", []string{string(dir), scope, secret})
	refused.expect("refused verified")
	// Windows cannot remove the directory of a held lock.
	t.Cleanup(func() { flocklock.ForgetHeld() })
}

func TestGoroutinesExclude(t *testing.T) {
	dir := newDir(t)
	var inside, turns atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				l, err := dir.Acquire(t.Context(), scope, secret)
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two holders")
				}
				turns.Add(1)
				inside.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if turns.Load() != 80 {
		t.Errorf("%d turns", turns.Load())
	}
}

func TestAcquireWaits(t *testing.T) {
	dir := newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := dir.Acquire(ended, scope, secret); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	canceled := wait(t, dir)
	settleWaiting(t, dir, 1)
	canceled.cancel()
	err := canceled.err()
	var refused *flocklock.HeldError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &refused) || refused.Holder.Record.PID != holder.pid() {
		t.Errorf("after a cancel: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := dir.Acquire(short, scope, secret); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}

	got := make(chan error)
	go func() {
		l, err := dir.Acquire(context.Background(), scope, secret)
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	holder.kill()
	if err := promptly(t, func() error { return <-got }); err != nil {
		t.Errorf("after the holder's end: %v", err)
	}
	if l, err := dir.Acquire(context.Background(), scope, secret); err != nil || l.Release() != nil {
		t.Errorf("a free lock: %v", err)
	}
	if _, err := dir.Acquire(context.Background(), "../evil", secret); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("what waiting cannot cure: %v", err)
	}
}

// 46: the holder is killed, again and again, and the next one starts at once.
func TestRow46KilledHolder(t *testing.T) {
	dir := newDir(t)
	for range 10 {
		p := spawn(t, "hold", []string{string(dir), scope, secret})
		p.expect("held")
		p.kill()
	}
	status, err := dir.Inspect(scope, secret)
	if err != nil || status.State != flocklock.Free || !status.Leftover || status.Record == nil {
		t.Errorf("after a kill: %+v, %v", status, err)
	}
	if got := status.String(); !strings.Contains(got, "left by") || strings.Contains(got, "held by") {
		t.Errorf("a leftover record is not a lock: %s", got)
	}
	mustSettle(t, dir)
}

// 29: a child that outlives the holder does not have the lock, unless it was
// given it.
func TestRow29InheritedDescriptor(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "inherit", []string{string(dir), scope, secret, "keep"})
	p.expect("held")
	p.expect("ready")
	p.cmd.Process.Kill()
	p.cmd.Process.Wait()
	mustSettle(t, dir)

	given := spawn(t, "inherit", []string{string(dir), scope, secret, "give"})
	if line := given.line(); strings.Contains(line, errors.ErrUnsupported.Error()) {
		t.Skip("locks are not inherited here: ", line)
	} else if line != "held" {
		t.Fatal(line)
	}
	given.expect("ready")
	given.cmd.Process.Kill()
	given.cmd.Process.Wait()
	refused := mustRefuse(t, dir, flocklock.StandingUnknown)
	if got := refused.Error(); !strings.Contains(got, "has ended") {
		t.Errorf("message: %s", got)
	}
	given.stdin.Close() // the child ends
	l, err := dir.Acquire(t.Context(), scope, secret)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

// 31: somebody removes the lock file while it is held.
func TestRow31LockFileRemoved(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	err := os.Remove(lockPath(dir))
	if runtime.GOOS == "windows" {
		if err == nil {
			t.Error("the lock file could be removed")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("removed: %v", err)
	}
	second := mustAcquire(t, dir)
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("replaced: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if got := readFile(t, recordPath(dir)); !strings.Contains(got, second.Record().ID) {
		t.Errorf("the later owner's record went with the earlier one's: %s", got)
	}
	if err := second.Check(); err != nil {
		t.Errorf("the later owner: %v", err)
	}
	if status, err := dir.Inspect(scope, secret); err != nil || !status.Holder.Self() || status.Record == nil {
		t.Errorf("%+v, %v", status, err)
	}
}

// 31: starters race with one that removes the lock file: nobody ends up with a
// lock on a file that has no name.
func TestRow31RemovalRace(t *testing.T) {
	dir := newDir(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				os.Remove(lockPath(dir))
			}
		}
	})
	for range 300 {
		l, err := dir.Acquire(t.Context(), scope, secret)
		var gaveUp *fs.PathError
		if errors.As(err, &gaveUp) {
			continue // an attempt is bounded; the vandal was faster each time
		}
		if err != nil {
			t.Error(err)
			break
		}
		if err := l.Check(); err != nil && !errors.Is(err, flocklock.ErrLost) {
			t.Error(err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestCheckPutsTheRecordBack(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	before := readFile(t, recordPath(dir))
	for what, damage := range map[string]func() error{
		"removed":       func() error { return os.Remove(recordPath(dir)) },
		"damaged":       func() error { return os.WriteFile(recordPath(dir), []byte("{"), 0o644) },
		"stale legacy":  func() error { return os.WriteFile(recordPath(dir), []byte(`{"pid":0}`), 0o644) },
		"written again": func() error { return os.WriteFile(recordPath(dir), []byte(before), 0o644) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := l.Check(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if after := readFile(t, recordPath(dir)); after != before {
			t.Errorf("%s: record is now %s", what, after)
		}
	}
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	var refused *flocklock.HeldError
	if err := l.Check(); !errors.As(err, &refused) || refused.Holder.Standing != flocklock.StandingLegacy ||
		refused.Holder.Record.PID != owner.pid() {
		t.Errorf("taken over by an old gateway: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if got := readFile(t, recordPath(dir)); !strings.Contains(got, `"gateway"`) {
		t.Errorf("release removed another's record: %s", got)
	}
	os.WriteFile(recordPath(dir), []byte(before), 0o644)
	l = mustAcquire(t, dir)
	os.WriteFile(recordPath(dir), []byte(before), 0o644)
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("another flocklock process wrote its record: %v", err)
	}
}

// 36: no message blames a process that was not verified.
func TestRow36MessageBlamesNobody(t *testing.T) {
	dir := newDir(t)
	dead := spawn(t, "hold", []string{string(dir), scope, secret})
	dead.expect("held")
	text := readFile(t, recordPath(dir))
	dead.kill()
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")

	stranger := stranger(t)
	for what, record := range map[string]string{
		"a record of one that ended": text,
		"a record of a recycled PID": recycled(t, text, stranger.pid()),
		"no record":                  "",
		"no JSON":                    "damaged",
		"an ended old gateway":       `{"pid":0}`,
	} {
		os.Remove(recordPath(dir))
		if record != "" {
			put(t, dir, record)
		}
		refused := mustRefuse(t, dir, flocklock.StandingUnknown)
		if got := refused.Error(); strings.Contains(got, "held by flocklock") || !strings.Contains(got, "not known") {
			t.Errorf("%s: %s", what, got)
		}
	}
	escaped := strings.Replace(text, jsonPID(dead.pid()), jsonPID(holder.pid()), 1)
	var r flocklock.Record
	if err := json.Unmarshal([]byte(escaped), &r); err != nil {
		t.Fatal(err)
	}
	r.Argv, r.Profile = []string{"a\x1b]0;evil\abc\nd", "x"}, "ok"
	start := startOf(t, holder.pid())
	r.StartTime = &start
	line, _ := json.Marshal(r)
	put(t, dir, string(line))
	got := mustRefuse(t, dir, flocklock.StandingVerified).Error()
	if strings.ContainsAny(got, "\x1b\a\n") || !strings.Contains(got, `\x1b`) || !strings.Contains(got, "profile ok") {
		t.Errorf("message: %q", got)
	}

	// An old gateway that lives and wrote its record over the holder's is named, for
	// it does own the lock by its own rules.
	old := gateway(t)
	putLegacy(t, dir, old.pid(), nil)
	if refused := mustRefuse(t, dir, flocklock.StandingLegacy); refused.Holder.Record.PID != old.pid() {
		t.Errorf("message: %v", refused)
	}
}

// recycled is a record whose PID belongs to a younger process by now.
func recycled(t *testing.T, text string, pid int) string {
	t.Helper()
	var r flocklock.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	start := startOf(t, pid) - 1000 // ten seconds: more than clocks may step
	r.PID, r.StartTime = pid, &start
	changed, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

func jsonPID(pid int) string {
	text, _ := json.Marshal(map[string]int{"pid": pid})
	return strings.Trim(string(text), "{}")
}

// 40: the status of a held lock is readable, on Windows too, where the locked
// byte of a file is not.
func TestRow40StatusWhileHeld(t *testing.T) {
	dir := newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	status, err := dir.Inspect(scope, secret)
	if err != nil || status.State != flocklock.Held || status.Record.PID != holder.pid() || status.Leftover {
		t.Errorf("%+v, %v", status, err)
	}
	if got := status.String(); !strings.HasPrefix(got, scope+" is held by ") {
		t.Error(got)
	}
	readFile(t, recordPath(dir))
	list, err := dir.List()
	if err != nil || len(list) != 1 || list[0].Name != name || list[0].Holder.Standing != flocklock.StandingVerified {
		t.Errorf("%+v, %v", list, err)
	}
	holder.finish()
	status, err = dir.Inspect(scope, secret)
	if err != nil || status.State != flocklock.Free || status.Leftover || status.Record != nil || status.Holder.Standing != "" {
		t.Errorf("%+v, %v", status, err)
	}
	if got := status.String(); got != scope+" is free." {
		t.Error(got)
	}
	if got := status.Holder.String(); got != "held by nobody" {
		t.Error(got)
	}
}

func TestInspectCreatesNothing(t *testing.T) {
	dir := flocklock.Dir(filepath.Join(t.TempDir(), "none"))
	status, err := dir.Inspect(scope, secret)
	if err != nil || status.State != flocklock.Free || status.Name != name {
		t.Errorf("%+v, %v", status, err)
	}
	if list, err := dir.List(); err != nil || list != nil {
		t.Errorf("%v, %v", list, err)
	}
	if report, err := dir.Migrate(flocklock.MigrateOptions{}); err != nil || report != nil {
		t.Errorf("%v, %v", report, err)
	}
	if _, err := os.Stat(string(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory was created")
	}
}

// A probe holds the lock shared for a moment; that does not refuse a starter.
func TestProbeDoesNotRefuse(t *testing.T) {
	dir := newDir(t)
	mustSettle(t, dir)
	prober := flock.New(lockPath(dir))
	if ok, err := prober.TryRLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	done := make(chan error)
	time.AfterFunc(5*time.Millisecond, func() { done <- prober.Unlock() })
	l, err := dir.TryAcquire(scope, secret)
	if err != nil {
		t.Errorf("a probe of 5 ms refused a starter: %v", err)
	} else {
		l.Release()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// 44: a scope or identity that is no name.
func TestRow44BadNames(t *testing.T) {
	parent := t.TempDir()
	dir := flocklock.Dir(filepath.Join(parent, "locks"))
	const longest = "a2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
	for _, bad := range []string{"", "../../evil", "/evil", `..\evil`, "a/b", ".", "..", ".hidden", "-flag", "a b", "a\x00b",
		"a\nb", "é", "\xff", "a:b", longest + "x", strings.Repeat("x", 1<<20)} {
		if l, err := dir.TryAcquire(bad, secret); !errors.Is(err, fs.ErrInvalid) || l != nil || len(err.Error()) > 400 {
			t.Errorf("scope %.20q: %v", bad, err)
		}
		if _, err := dir.Inspect(bad, secret); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("inspect %.20q: %v", bad, err)
		}
		if l, err := dir.TakeOver(t.Context(), bad, secret, flocklock.TakeOverOptions{}); !errors.Is(err, fs.ErrInvalid) || l != nil {
			t.Errorf("take over %.20q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "\xff", "a secret\xc0"} {
		if l, err := dir.TryAcquire(scope, bad); !errors.Is(err, fs.ErrInvalid) || l != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("identity %q: %v", bad, err)
		}
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 0 {
		t.Errorf("created: %v", entries)
	}
	for _, good := range []string{"a", "A.b_c-d", "0", longest} {
		l, err := dir.TryAcquire(good, strings.Repeat("huge/../\x00", 1<<17))
		if err != nil {
			t.Errorf("scope %s: %v", good, err)
			continue
		}
		l.Release()
	}
	if _, err := flocklock.Dir("").TryAcquire(scope, secret); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := flocklock.Dir("").List(); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
	if err := flocklock.Dir("").Clear(name); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := flocklock.Dir("a\x00b").TryAcquire(scope, secret); err == nil {
		t.Error("a directory with a NUL")
	}
}

func TestBadOptions(t *testing.T) {
	dir := newDir(t)
	for what, o := range map[string]flocklock.Option{
		"a channel":      flocklock.WithMetadata(map[string]any{"x": make(chan int)}),
		"too much":       flocklock.WithMetadata(map[string]any{"x": strings.Repeat("x", 1<<17)}),
		"an odd profile": flocklock.WithProfile("Not/A profile"),
		"profile flag":   flocklock.WithProfile("-x"),
		"a long profile": flocklock.WithProfile(strings.Repeat("x", 65)),
		"a function":     flocklock.WithMetadata(map[string]any{"x": func() {}}),
	} {
		if l, err := dir.TryAcquire(scope, secret, o); !errors.Is(err, fs.ErrInvalid) || l != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if text, err := json.Marshal(flocklock.Record{Metadata: map[string]any{"x": make(chan int)}}); err == nil {
		t.Errorf("a record with a channel: %s", text)
	}
	much := strings.Repeat("x", 1<<14) // but not too much
	l, err := tryAcquire(t, dir, flocklock.WithMetadata(map[string]any{"x": much}))
	if err != nil || l.RecordErr() != nil || !strings.Contains(readFile(t, recordPath(dir)), much) {
		t.Errorf("much metadata: %v", err)
	}
}

// The logger is told what an error does not tell, and never the identity.
func TestLogger(t *testing.T) {
	dir := newDir(t)
	var log bytes.Buffer
	logger := flocklock.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))
	told := func(prepare func(), parts ...string) {
		t.Helper()
		log.Reset()
		prepare()
		l, err := tryAcquire(t, dir, logger)
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
		if got := log.String(); !contains(got, parts...) || strings.Contains(got, secret) || (len(parts) == 0) != (got == "") {
			t.Errorf("logged %q, want %q", got, parts)
		}
	}
	told(func() {})
	told(func() { put(t, dir, `{"pid":0}`) }, "level=INFO", "not a process number", recordPath(dir))
	told(func() {
		if err := os.Mkdir(recordPath(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}, "level=WARN", "nobody can see by whom", "a directory stands", recordPath(dir))
}

// 12, at the lock file's path: what is not a file is refused in words.
func TestRow12OddLockFile(t *testing.T) {
	for what, make := range oddities {
		t.Run(what, func(t *testing.T) {
			dir := newDir(t)
			make(t, lockPath(dir))
			l, err := tryAcquire(t, dir)
			if l != nil {
				t.Fatal("acquired")
			}
			pathErr := mustPathError(t, err)
			if !strings.Contains(err.Error(), lockPath(dir)) {
				t.Errorf("no path in %v", err)
			}
			t.Log(pathErr)
			if _, err := promptly(t, func() acquired { _, err := dir.Inspect(scope, secret); return acquired{nil, err} }).unpack(); err == nil {
				t.Error("inspect says nothing")
			}
			promptly(t, func() error { _, err := dir.List(); return err })
			promptly(t, func() error { _, err := dir.Migrate(flocklock.MigrateOptions{}); return err })
		})
	}
}

func (a acquired) unpack() (*flocklock.Lock, error) { return a.lock, a.err }

// 12, at the record's path: no gateway made it, so it does not hold the lock.
// A directory stays where it is; the lock is held without a record.
func TestRow12OddRecord(t *testing.T) {
	for what, make := range oddities {
		t.Run(what, func(t *testing.T) {
			dir := newDir(t)
			make(t, recordPath(dir))
			if status, err := promptlyInspect(t, dir); err != nil || status.State != flocklock.Free || !status.Leftover {
				t.Errorf("inspect: %+v, %v", status, err)
			} else if replaced := strings.Contains(status.String(), "next acquire replaces it"); replaced == (what == "directory") {
				t.Errorf("inspect: %v", status)
			}
			l, err := tryAcquire(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			if what == "directory" {
				pathErr := mustPathError(t, l.RecordErr())
				if pathErr.Path != recordPath(dir) {
					t.Error(pathErr)
				}
				if err := l.Check(); err != nil {
					t.Error(err)
				}
				if err := l.Release(); err != nil {
					t.Error(err)
				}
				report, err := dir.Migrate(flocklock.MigrateOptions{})
				if err != nil || len(report) != 1 || report[0].Action != flocklock.Kept {
					t.Errorf("%+v, %v", report, err)
				}
				return
			}
			if err := l.RecordErr(); err != nil {
				t.Error(err)
			}
			if err := l.Release(); err != nil {
				t.Error(err)
			}
			if got := files(t, dir); !slices.Equal(got, []string{name + ".flock"}) && !slices.Equal(got, []string{"target", name + ".flock"}) {
				t.Errorf("left behind: %v", got)
			}
			if got, err := os.ReadFile(filepath.Join(string(dir), "target")); err == nil && string(got) != "precious" {
				t.Errorf("the link's target was touched: %q", got)
			}
		})
	}
}

func promptlyInspect(t *testing.T, dir flocklock.Dir) (flocklock.Status, error) {
	type result struct {
		status flocklock.Status
		err    error
	}
	r := promptly(t, func() result { s, err := dir.Inspect(scope, secret); return result{s, err} })
	return r.status, r.err
}

// oddities puts something at a path that is not a file. What a system has not
// is skipped.
var oddities = map[string]func(t *testing.T, path string){
	"directory": func(t *testing.T, path string) {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "something"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	},
	"symlink to a file": func(t *testing.T, path string) {
		target := filepath.Join(filepath.Dir(path), "target")
		if err := os.WriteFile(target, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		symlink(t, target, path)
	},
	"symlink to a directory": func(t *testing.T, path string) { symlink(t, t.TempDir(), path) },
	"dangling symlink":       func(t *testing.T, path string) { symlink(t, filepath.Join(t.TempDir(), "none"), path) },
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skip("this machine does not let us make a symbolic link: ", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Skip("this machine makes no symbolic links")
	}
}

// The directory is a file, or lies below one, or vanishes.
func TestBadDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []flocklock.Dir{flocklock.Dir(file), flocklock.Dir(filepath.Join(file, "below"))} {
		l, err := tryAcquire(t, dir)
		if l != nil {
			t.Fatal("acquired")
		}
		mustPathError(t, err)
		// To wait cures nothing, whether something can end the wait or not.
		for _, ctx := range []context.Context{t.Context(), context.Background()} {
			mustPathError(t, promptly(t, func() error { _, err := dir.Acquire(ctx, scope, secret); return err }))
		}
	}
	if s, err := flocklock.Dir(file).Inspect(scope, secret); err == nil {
		t.Errorf("inspected a file: %v", s)
	}
	if _, err := flocklock.Dir(file).List(); err == nil {
		t.Error("listed a file")
	}
	if _, err := flocklock.Dir(file).Migrate(flocklock.MigrateOptions{}); err == nil {
		t.Error("migrated a file")
	}

	if runtime.GOOS == "windows" {
		return // a directory with an open file cannot be removed
	}
	dir := flocklock.Dir(filepath.Join(t.TempDir(), "vanishes"))
	l := mustAcquire(t, dir)
	if err := os.RemoveAll(string(dir)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("check: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
	mustSettle(t, dir)
}

// No descriptors are left.
func TestNoDescriptors(t *testing.T) {
	dir := newDir(t)
	mustSettle(t, dir)
	putLegacy(t, dir, gateway(t).pid(), nil)
	for free := range 4 {
		l, err := tryAcquireWithDescriptors(t, dir, free)
		if l != nil {
			t.Errorf("%d descriptors free: a living gateway's lock was taken", free)
			l.Release()
		}
		if errors.Is(err, flocklock.ErrHeld) {
			continue
		}
		if pathErr := mustPathError(t, err); !strings.Contains(pathErr.Error(), "too many open files") {
			t.Errorf("%d descriptors free: %v", free, err)
		}
	}
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	if l, err := tryAcquireWithDescriptors(t, dir, 1); l != nil {
		mustPathError(t, l.RecordErr())
		l.Release()
	} else {
		mustPathError(t, err)
	}
	mustSettle(t, dir)
}

// A record of 1 GiB, and one that is a little too large.
func TestHugeRecord(t *testing.T) {
	for _, size := range []int64{64<<10 + 1, 1 << 30} {
		dir := newDir(t)
		put(t, dir, "")
		if err := os.Truncate(recordPath(dir), size); err != nil {
			t.Skip("this machine has no sparse files: ", err)
		}
		if status, err := promptlyInspect(t, dir); err != nil || !status.Leftover {
			t.Errorf("%+v, %v", status, err)
		}
		mustSettle(t, dir)
	}
}

func TestListSkipsWhatIsNoLock(t *testing.T) {
	dir := newDir(t)
	for _, n := range []string{"gateway.lock", "x.flock", "readme", "a-0123456789ABCDEF.lock", ".b-0123456789abcdef.tmp"} {
		if err := os.WriteFile(filepath.Join(string(dir), n), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	putLegacy(t, dir, gateway(t).pid(), nil)
	if l, err := dir.TryAcquire("a", "1"); err != nil {
		t.Fatal(err)
	} else {
		defer l.Release()
	}
	list, err := dir.List()
	if err != nil || len(list) != 2 || list[0].Scope != "a" || list[1].Holder.Standing != flocklock.StandingLegacy {
		t.Errorf("%+v, %v", list, err)
	}
}
