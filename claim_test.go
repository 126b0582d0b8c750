package flocklock

// What happens when an old gateway writes its record between our look and our
// step. From outside that moment cannot be met on purpose, so these tests are
// inside.

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const stalePath = "s-0123456789abcdef" + recordSuffix

func judgeAll(c *content) verdict { return judge(c, LooksLikeGateway) }

// meanwhile judges a stale record, lets an old gateway put its own there, and
// then takes our step. It returns the directory.
func meanwhile(t *testing.T, step func(path string, judged *content)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, stalePath)
	write := func(text string) {
		aside := filepath.Join(dir, "written")
		if err := errors.Join(os.WriteFile(aside, []byte(text), 0o644), os.Rename(aside, path)); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"pid": 0}`)
	judged, err := readContent(path)
	if err != nil {
		t.Fatal(err)
	}
	write(`{"pid": 1}`)
	step(path, judged)
	if got, err := os.ReadFile(path); err != nil || string(got) != `{"pid": 1}` {
		t.Errorf("the old gateway's record is now %q, %v", got, err)
	}
	return dir
}

func TestRecordWrittenMeanwhile(t *testing.T) {
	ours := []byte(`{"pid": 2}`)
	type replacing = func(tmp, path string, written mark, text []byte, judged *content, judge func(*content) verdict) (mark, error)
	live := func(tmp, path string, written mark, text []byte, judged *content, _ func(*content) verdict) (mark, error) {
		return replaceLive(tmp, path, written, text, judged)
	}
	for what, replace := range map[string]replacing{"exchange": replace, "aside": replaceAside, "live": live} {
		t.Run(what, func(t *testing.T) {
			meanwhile(t, func(path string, judged *content) {
				tmp := sidePath(path, ".tmp")
				written, err := writeNew(tmp, ours)
				if err != nil {
					t.Fatal(err)
				}
				if placed, err := replace(tmp, path, written, ours, judged, judgeAll); !placed.none() || err != nil {
					t.Errorf("replaced: %v, %v", placed, err)
				}
				if !standsAt(tmp, written) {
					t.Error("our own file is not where the next attempt needs it")
				}
			})
		})
	}
	t.Run("remove", func(t *testing.T) {
		dir := meanwhile(t, func(path string, judged *content) {
			m, err := removeJudged(path, strings.TrimSuffix(stalePath, recordSuffix), judged, Migrated{Action: Removed}, judgeAll)
			if err != nil || m.Action != Kept {
				t.Errorf("%+v, %v", m, err)
			}
		})
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
}

// The record may also be gone by the time of our step.
func TestRecordGoneMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), stalePath)
	tmp := sidePath(path, ".tmp")
	written, err := writeNew(tmp, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	judged := &content{mark: written}
	if placed, err := replace(tmp, path, written, nil, judged, judgeAll); !placed.none() || err != nil {
		t.Error(placed, err)
	}
	if placed, err := replaceAside(tmp, path, written, nil, judged, judgeAll); !placed.none() || err != nil {
		t.Error(placed, err)
	}
	if !standsAt(tmp, written) {
		t.Error("our own file is gone")
	}
}

// living starts a process that lives as long as the test; see TestMain.
func living(t *testing.T) (pid int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "FLOCKLOCK_TEST_WORKER=idle")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// A crash between two steps may leave a living gateway's record beside its
// path. It owns the lock all the same, and goes back as soon as it can.
func TestLivingRecordLeftAside(t *testing.T) {
	dir := Dir(t.TempDir())
	name, err := dir.lockName("s", "identity")
	if err != nil {
		t.Fatal(err)
	}
	path := dir.path(name, recordSuffix)
	owner := living(t)
	living, err := json.Marshal(map[string]any{"pid": owner, "start_time": examine(owner).start})
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := dir.TryAcquire("s", "identity"); !errors.Is(err, ErrHeld) {
			t.Fatalf("taken from a living gateway: %v", err)
		}
	}
	write(sidePath(path, ".tmp"), living)
	refused()
	if got, err := os.ReadFile(path); err != nil || string(got) != string(living) {
		t.Errorf("not put back: %q, %v", got, err)
	}
	// The path may have been taken by what is stale.
	if err := os.Rename(path, sidePath(path, ".tmp")); err != nil {
		t.Fatal(err)
	}
	write(path, []byte(`{"pid": 0}`))
	refused()
	if got, err := os.ReadFile(path); err != nil || string(got) != string(living) {
		t.Errorf("not put back over a stale record: %q, %v", got, err)
	}
	if err := os.Rename(path, sidePath(path, ".old")); err != nil {
		t.Fatal(err)
	}
	write(sidePath(path, ".tmp"), []byte(`{"pid": 0}`)) // of whom was about to take its place
	refused()
	if err := os.Rename(path, sidePath(path, ".old")); err != nil {
		t.Fatal(err)
	}
	report, err := dir.Migrate(MigrateOptions{})
	if err != nil || len(report) != 1 || report[0].Action != Kept {
		t.Errorf("%+v, %v", report, err)
	}
	refused()

	if err := os.Rename(path, sidePath(path, ".old")); err != nil {
		t.Fatal(err)
	}
	write(path, []byte(`{"pid": 0}`))
	judged, err := readContent(path)
	if err != nil {
		t.Fatal(err)
	}
	var owned *ownedError
	if _, err := replaceAside("", path, mark{}, nil, judged, judgeAll); !errors.As(err, &owned) {
		t.Errorf("moved over a living gateway's record: %v", err)
	}
}

// While a record is aside there is the file that tells of it.
func TestAsideIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), stalePath)
	tmp, aside := sidePath(path, ".tmp"), sidePath(path, ".old")
	written, err := writeNew(tmp, []byte("{}"))
	if err := errors.Join(err, os.WriteFile(aside, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	removeOwn(tmp, path, written)
	if !standsAt(tmp, written) {
		t.Error("nothing tells of the record aside")
	}
	if err := os.Remove(aside); err != nil {
		t.Fatal(err)
	}
	removeOwn(tmp, path, written)
	if !missing(tmp) {
		t.Error("left behind")
	}
}

// Where two gateways own one lock, by a race of theirs, the record that was left
// aside waits for the other to go.
func TestTwoLivingRecords(t *testing.T) {
	dir := Dir(t.TempDir())
	name, err := dir.lockName("s", "identity")
	if err != nil {
		t.Fatal(err)
	}
	path := dir.path(name, recordSuffix)
	record := func() (text string) {
		owner := living(t)
		living, err := json.Marshal(map[string]any{"pid": owner, "start_time": examine(owner).start})
		if err != nil {
			t.Fatal(err)
		}
		return string(living)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	standsIn := func(path, text string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	first, second := record(), record()
	for _, suffix := range []string{".tmp", ".old"} {
		side := sidePath(path, suffix)
		for _, other := range []string{first, ""} { // "": just about to be written
			write(path, other)
			write(sidePath(path, ".tmp"), first) // there is one whenever there is one aside
			write(side, second)
			if _, err := dir.TryAcquire("s", "identity"); !errors.Is(err, ErrHeld) {
				t.Errorf("taken from a living gateway: %v", err)
			}
			standsIn(path, other)
			standsIn(side, second)
		}
		write(path, first)
		report, err := dir.Migrate(MigrateOptions{})
		if err != nil || len(report) < 2 || report[0].Action != Kept || report[1].Action != Kept {
			t.Errorf("%+v, %v", report, err)
		}
		standsIn(side, second)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.TryAcquire("s", "identity"); !errors.Is(err, ErrHeld) {
			t.Errorf("taken from a living gateway: %v", err)
		}
		standsIn(path, second)
	}
}

// A caller's function that panics does not leave the lock held.
func TestPanicOfTheCaller(t *testing.T) {
	dir := Dir(t.TempDir())
	name, _ := dir.lockName("s", "identity")
	text, _ := json.Marshal(map[string]any{"pid": living(t), "updated_at": time.Now().Add(time.Hour)})
	if err := os.WriteFile(dir.path(name, recordSuffix), text, 0o644); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the function was not asked")
			}
		}()
		dir.TryAcquire("s", "identity", nil, WithLooksLikeGateway(func([]string) bool { panic("the caller's") }))
	}()
	done, err := dir.probe(name)
	if err != nil {
		t.Fatalf("still held: %v", err)
	}
	done()
	l, err := dir.TryAcquire("s", "identity", WithLooksLikeGateway(nil), WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

// 14: an empty file that has the number of one that is gone is not that one: an
// old gateway is about to write into it.
func TestRow14NumberOfAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), stalePath)
	create := func(at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	look := func() *content {
		t.Helper()
		c, err := readContent(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	now := time.Now()
	create(now.Add(-time.Hour))
	judged := look()
	if !judged.same(look()) {
		t.Error("a file is not the same as itself")
	}
	create(now) // in place, which keeps the number
	if judged.same(look()) {
		t.Error("a file that was created later is taken for the one before it")
	}
}

// 14: what is about to be written is waited for, though another file stood there
// before and was waited for, too.
func TestRow14EveryWriterIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), stalePath)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, v, err := readFinished(path, func(c *content) verdict {
		if c.record != nil {
			return live("it is written")
		}
		text := ""
		if time.Since(begun) > 2*writerPatience {
			text = `{"pid": 1}`
		}
		next := path + ".next"
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o644), os.Rename(next, path)); err != nil {
			t.Error(err)
		}
		v := stale("empty")
		v.unfinished = true
		return v
	})
	if err != nil || !v.live {
		t.Errorf("after %v: %+v, %v", time.Since(begun), v, err)
	}
}
