package flocklock_test

// Taking over, clearing, and noticing a loss, with real processes. Numbers are
// rows of the catalogue of failures of the old lock.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

func takeOver(t *testing.T, dir flocklock.Dir, o flocklock.TakeOverOptions, opts ...flocklock.Option) (*flocklock.Lock, error) {
	t.Helper()
	got := promptly(t, func() acquired {
		l, err := dir.TakeOver(t.Context(), scope, secret, o, opts...)
		return acquired{l, err}
	})
	if got.lock != nil {
		t.Cleanup(func() { got.lock.Release() })
	}
	return got.lock, got.err
}

func mustTakeOver(t *testing.T, dir flocklock.Dir, o flocklock.TakeOverOptions) *flocklock.Lock {
	t.Helper()
	l, err := takeOver(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	return l
}

// mustSpare tries to take over and sees that nobody is ended.
func mustSpare(t *testing.T, dir flocklock.Dir, p *proc, why string) {
	t.Helper()
	l, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond})
	if l != nil || !errors.Is(err, flocklock.ErrNotTakenOver) || !errors.Is(err, flocklock.ErrHeld) || !strings.Contains(err.Error(), why) {
		t.Errorf("err = %v, want one that says %q", err, why)
	}
	p.tell("are you there?")
	p.expect("here")
}

// 32: the holder is found and ended, and the record says so.
func TestRow32TakeOver(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	l := mustTakeOver(t, dir, flocklock.TakeOverOptions{Grace: 50 * time.Millisecond})
	if r := l.Record(); r.TakenOverFrom != p.pid() || time.Since(r.TakenOverAt) > hang {
		t.Errorf("the record: %+v", r)
	}
	if text := readFile(t, recordPath(dir)); !strings.Contains(text, fmt.Sprintf(`"taken_over_from":%d,"taken_over_at":"`, p.pid())) {
		t.Errorf("the record: %s", text)
	}
	if rest := p.finish(); strings.Contains(rest, "released") {
		t.Errorf("the holder went on: %q", rest)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	// What nobody holds is simply taken.
	if r := mustTakeOver(t, dir, flocklock.TakeOverOptions{}).Record(); r.TakenOverFrom != 0 {
		t.Errorf("the record of a free lock: %+v", r)
	}
}

// 32: an old gateway that surely is the one, whether it heeds the request or not.
func TestRow32TakeOverFromOldGateway(t *testing.T) {
	for _, mode := range []string{"answer", "deaf-answer"} {
		dir := newDir(t)
		p := spawn(t, mode, nil, as("hermes-gateway"))
		p.expect("ready")
		putLegacy(t, dir, p.pid(), legacy{"start_time": startOf(t, p.pid())})
		l := mustTakeOver(t, dir, flocklock.TakeOverOptions{Grace: 50 * time.Millisecond})
		if got := l.Record().TakenOverFrom; got != p.pid() {
			t.Errorf("%s: taken over from %d", mode, got)
		}
		if got := p.finish(); got != "" {
			t.Errorf("%s: the old gateway says %q", mode, got)
		}
	}
}

// 33: two gateways that take over from each other do not do so for ever.
func TestRow33TakeOverPingPong(t *testing.T) {
	dir := newDir(t)
	first := spawn(t, "deaf", []string{string(dir), scope, secret})
	first.expect("held")
	second := spawn(t, "take-over", []string{string(dir), scope, secret})
	second.expect("held")
	mustSpare(t, dir, second, fmt.Sprintf("taken over 0s ago, from PID %d", first.pid()))
	mustTakeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond, Force: true})
}

// 35: only the process that the record means is ended.
func TestRow35NoStrangerIsEnded(t *testing.T) {
	dir := newDir(t)
	// The PID of an old gateway, whose start the record does not tell.
	p := spawn(t, "answer", nil, as("hermes-gateway"))
	p.expect("ready")
	putLegacy(t, dir, p.pid(), nil)
	mustSpare(t, dir, p, "does not say when its process began")

	// A recycled PID: nobody is refused, and nobody is ended.
	dir = newDir(t)
	putLegacy(t, dir, p.pid(), legacy{"start_time": startOf(t, p.pid()) - 1000})
	if r := mustTakeOver(t, dir, flocklock.TakeOverOptions{}).Record(); r.TakenOverFrom != 0 {
		t.Errorf("taken over from %d", r.TakenOverFrom)
	}

	// A lock file that somebody holds, with the record of another.
	dir = newDir(t)
	killed := holder(t, dir)
	record := readFile(t, recordPath(dir))
	killed.kill()
	held := holder(t, dir)
	put(t, dir, strings.Replace(record, fmt.Sprintf(`"pid":%d`, killed.pid()), fmt.Sprintf(`"pid":%d`, p.pid()), 1))
	why := "not known who holds it"
	if runtime.GOOS != "linux" { // where a start that is a little off may be the same
		why = "not taken over"
	}
	mustSpare(t, dir, p, why)
	if got := held.finish(); !strings.HasPrefix(got, "released") {
		t.Errorf("the holder said %q", got)
	}

	// Another host, or container.
	dir = newDir(t)
	held = holder(t, dir)
	key := `"host":"`
	if runtime.GOOS == "linux" { // where a boot has an id, that decides
		key = `"pid_ns":"`
	}
	put(t, dir, strings.Replace(readFile(t, recordPath(dir)), key, key+"9", 1))
	mustSpareHolder(t, dir, held, "cannot be reached from here")

	// A record that means ourselves, while another holds the lock.
	dir = newDir(t)
	held = holder(t, dir)
	var r flocklock.Record
	if err := json.Unmarshal([]byte(readFile(t, recordPath(dir))), &r); err != nil {
		t.Fatal(err)
	}
	start := startOf(t, os.Getpid())
	r.PID, r.StartTime = os.Getpid(), &start
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, string(text))
	mustSpareHolder(t, dir, held, "this process's own PID")
	p.tell("are you there?")
	p.expect("here")
}

func mustSpareHolder(t *testing.T, dir flocklock.Dir, held *proc, why string) {
	t.Helper()
	_, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond})
	if !errors.Is(err, flocklock.ErrNotTakenOver) || !strings.Contains(err.Error(), why) {
		t.Errorf("err = %v, want one that says %q", err, why)
	}
	if got := held.finish(); !strings.HasPrefix(got, "released") {
		t.Errorf("the holder said %q", got)
	}
}

func TestTakeOverFromSelf(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	if _, err := takeOver(t, dir, flocklock.TakeOverOptions{}); !errors.Is(err, flocklock.ErrNotTakenOver) {
		t.Errorf("err = %v", err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func TestTakeOverGivesUp(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if runtime.GOOS == "windows" {
		cancel() // for there is no grace
	}
	l, err := dir.TakeOver(ctx, scope, secret, flocklock.TakeOverOptions{Grace: time.Hour})
	if l != nil || !errors.Is(err, ctx.Err()) {
		t.Errorf("lock %v, err = %v", l, err)
	}
	mustRefuse(t, dir, flocklock.StandingVerified)

	// A context that has ended already ends nobody.
	p.kill()
	p = holder(t, dir)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if l, err := dir.TakeOver(ended, scope, secret, flocklock.TakeOverOptions{}); l != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("lock %v, err = %v", l, err)
	}
	if got := p.finish(); !strings.HasPrefix(got, "released") {
		t.Errorf("the holder said %q", got)
	}
}

// 37: there is a call for what users did with rm.
func TestRow37Clear(t *testing.T) {
	dir := newDir(t)
	if err := dir.Clear(name); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	p := holder(t, dir)
	if err := dir.Clear(name); !errors.Is(err, flocklock.ErrHeld) {
		t.Errorf("held: %v", err)
	}
	p.kill()
	if err := dir.Clear(name); err != nil {
		t.Errorf("left: %v", err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	old := gateway(t)
	putLegacy(t, dir, old.pid(), nil)
	if err := dir.Clear(name); !errors.Is(err, flocklock.ErrHeld) {
		t.Errorf("an old gateway lives: %v", err)
	}
	old.kill()
	if err := dir.Clear(name); err != nil {
		t.Errorf("an old gateway ended: %v", err)
	}
	// What stays is told, and where there is nothing, nothing is made.
	if err := os.Mkdir(recordPath(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	var stays *fs.PathError
	if err := dir.Clear(name); !errors.As(err, &stays) {
		t.Errorf("a directory in its place: %v", err)
	}
	nowhere := flocklock.Dir(filepath.Join(string(dir), "nowhere"))
	if err := nowhere.Clear(name); err != nil {
		t.Errorf("no directory: %v", err)
	}
	if _, err := os.Stat(string(nowhere)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	for _, bad := range []string{"", "x", "../" + name, name + "/..", scope} {
		if err := dir.Clear(bad); err == nil {
			t.Errorf("cleared %q", bad)
		}
		if err := dir.EndHolder(t.Context(), bad, flocklock.TakeOverOptions{}); err == nil {
			t.Errorf("ended the holder of %q", bad)
		}
	}
}

func TestEndHolder(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	if err := dir.EndHolder(t.Context(), name, flocklock.TakeOverOptions{Grace: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	mustSettle(t, dir)
}

func TestLost(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let anybody remove a lock file that is open")
	}
	noLeak(t)
	dir := newDir(t)
	var log eventLog
	l, err := tryAcquire(t, dir, flocklock.WithLogger(slog.New(&log)))
	if err != nil {
		t.Fatal(err)
	}
	lost := l.Lost()
	if l.Lost() != lost {
		t.Error("two channels")
	}
	// A record that is removed is put back, and no loss.
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	until(t, "the record is put back", func() bool { _, err := os.Stat(recordPath(dir)); return err == nil })
	select {
	case <-lost:
		t.Error("lost with the record")
	default:
	}
	if err := os.Remove(lockPath(dir)); err != nil {
		t.Fatal(err)
	}
	promptly(t, func() struct{} { return <-lost })
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("check: %v", err)
	}
	if !log.saw(flocklock.EventLost) {
		t.Errorf("told of %q", log.all())
	}
}

// 45: an old gateway that takes the record's path is noticed.
func TestRow45LostToOldGateway(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	lost := l.Lost()
	old := gateway(t)
	if err := os.Remove(recordPath(dir)); err != nil { // as old gateways do by mistake
		t.Fatal(err)
	}
	putLegacy(t, dir, old.pid(), legacy{"start_time": startOf(t, old.pid())})
	promptly(t, func() struct{} { return <-lost })
	if err := l.Check(); !errors.Is(err, flocklock.ErrHeld) {
		t.Errorf("check: %v", err)
	}
}

func TestReleaseEndsTheWatch(t *testing.T) {
	noLeak(t)
	l := mustAcquire(t, newDir(t))
	lost := l.Lost()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
		t.Error("a release is no loss")
	case <-l.Lost():
		t.Error("a release is no loss")
	default:
	}
}

func TestEvents(t *testing.T) {
	dir := newDir(t)
	var log eventLog
	logger := flocklock.WithLogger(slog.New(&log))
	p := spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	if _, err := tryAcquire(t, dir, logger); !errors.Is(err, flocklock.ErrHeld) {
		t.Fatal(err)
	}
	w := wait(t, dir, logger)
	settleWaiting(t, dir, 1)
	p.kill()
	w.lock().Release()
	p = spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	l, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond}, logger)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	for _, event := range []string{flocklock.EventRefused, flocklock.EventWaited, flocklock.EventAcquired, flocklock.EventTakenOver, flocklock.EventRecord} {
		if !log.saw(event) {
			t.Errorf("not told of %s, only of %q", event, log.all())
		}
	}
	if got := fmt.Sprint(log.all()); !strings.Contains(got, "holder=held by ") {
		t.Errorf("not told who holds it: %s", got)
	}
	if got := fmt.Sprint(log.all()); strings.Contains(got, secret) {
		t.Errorf("the identity is told: %s", got)
	}
}
