package flocklock_test

// The drop-in and the default directory.

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/flocklock/flocklock"
)

// useDir makes a fresh directory the default one.
func useDir(t *testing.T) flocklock.Dir {
	t.Helper()
	dir := newDir(t)
	t.Setenv("HERMES_GATEWAY_LOCK_DIR", string(dir))
	t.Cleanup(func() { flocklock.ReleaseAllScopedLocks() })
	return dir
}

// 07: a gateway that connects again finds its own lock, and the last release
// frees it.
func TestRow07Reentrant(t *testing.T) {
	dir := useDir(t)
	t.Setenv("HERMES_HOME", filepath.Join(t.TempDir(), "profiles", "work"))
	acquired, existing, err := flocklock.AcquireScopedLock(scope, secret, map[string]any{"platform": "telegram"})
	if !acquired || existing != nil || err != nil {
		t.Fatal(acquired, existing, err)
	}
	acquired, existing, err = flocklock.AcquireScopedLock(scope, secret, nil)
	if !acquired || existing == nil || err != nil || existing.PID != os.Getpid() || existing.Metadata["platform"] != "telegram" {
		t.Fatal(acquired, existing, err)
	}
	other := spawn(t, "hold", []string{string(dir), scope, secret})
	other.expect("refused verified")
	if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
		t.Fatal(err)
	}
	other = spawn(t, "hold", []string{string(dir), scope, secret})
	if got := other.expect("refused verified"); !strings.Contains(got, "profile work") {
		t.Errorf("no profile in %s", got)
	}
	// The lock is found even where the directory is not any more.
	t.Setenv("HERMES_GATEWAY_LOCK_DIR", t.TempDir())
	for range 2 {
		if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
			t.Fatal(err)
		}
	}
	mustSettle(t, dir)
}

// 08: the caller's connect fails and the lock is not given back. The same process
// gets it again, and what releases all frees it.
func TestRow08FailedConnect(t *testing.T) {
	dir := useDir(t)
	for range 3 { // attempts to connect
		if acquired, _, err := flocklock.AcquireScopedLock(scope, secret, nil); !acquired || err != nil {
			t.Fatal(acquired, err)
		}
	}
	mustBeRefusedElsewhere(t, dir)
	if n, err := flocklock.ReleaseAllScopedLocks(); n != 1 || err != nil {
		t.Error(n, err)
	}
	holder(t, dir).finish()
}

// 24: two adapters of one process share a lock; one releases, the other has it.
func TestRow24TwoAdapters(t *testing.T) {
	dir := useDir(t)
	for range 2 {
		if acquired, _, err := flocklock.AcquireScopedLock(scope, secret, nil); !acquired || err != nil {
			t.Fatal(acquired, err)
		}
	}
	if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
		t.Fatal(err)
	}
	mustBeRefusedElsewhere(t, dir)
	if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
		t.Fatal(err)
	}
	holder(t, dir).finish()
}

func mustBeRefusedElsewhere(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	spawn(t, "hold", []string{string(dir), scope, secret}).expect("refused verified")
}

// 38: a refusal is not final: the same call succeeds when the holder has ended.
func TestRow38TryAgain(t *testing.T) {
	dir := useDir(t)
	p := holder(t, dir)
	for _, again := range []bool{false, true} {
		acquired, _, err := flocklock.AcquireScopedLock(scope, secret, nil)
		if acquired != again || err != nil {
			t.Fatal(acquired, err)
		}
		p.kill()
	}
	if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
		t.Error(err)
	}
}

// 27: a refusal is a false, which no condition takes for true.
func TestRow27Refused(t *testing.T) {
	dir := useDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	acquired, existing, err := flocklock.AcquireScopedLock(scope, secret, nil)
	if acquired || err != nil || existing == nil || existing.PID != holder.pid() {
		t.Fatal(acquired, existing, err)
	}
	os.Remove(recordPath(dir))
	put(t, dir, `{"pid":0,"format":2}`)
	acquired, existing, err = flocklock.AcquireScopedLock(scope, secret, nil)
	if acquired || err != nil || existing != nil {
		t.Errorf("a record that is not the holder's: %v, %v, %v", acquired, existing, err)
	}
	os.Remove(recordPath(dir))
	holder.finish()

	l := mustAcquire(t, dir)
	acquired, existing, err = flocklock.AcquireScopedLock(scope, secret, nil)
	if acquired || err != nil || existing == nil {
		t.Fatal("a lock of this process that the drop-in did not take:", acquired, existing, err)
	}
	if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
		t.Error(err)
	}
	if n, err := flocklock.ReleaseAllScopedLocks(); n != 0 || err != nil {
		t.Error(n, err)
	}
	if err := l.Check(); err != nil {
		t.Errorf("the drop-in released it: %v", err)
	}
}

func TestScopedConcurrently(t *testing.T) {
	useDir(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				acquired, _, err := flocklock.AcquireScopedLock(scope, secret, nil)
				if !acquired || err != nil {
					t.Error("this process does not know its own lock:", acquired, err)
				}
				if err := flocklock.ReleaseScopedLock(scope, secret); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := flocklock.ReleaseAllScopedLocks(); n != 0 || err != nil {
		t.Errorf("%d locks left, %v", n, err)
	}
}

// 25: release-all releases this process's locks and nobody else's.
func TestRow25ReleaseAll(t *testing.T) {
	dir := useDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	owner := gateway(t)
	const legacyName = "irc-0123456789abcdef.lock"
	putLegacy(t, dir, owner.pid(), nil)
	if err := os.Rename(recordPath(dir), filepath.Join(string(dir), legacyName)); err != nil {
		t.Fatal(err)
	}
	for _, identity := range []string{"one", "two", "two"} {
		if acquired, _, err := flocklock.AcquireScopedLock(scope, identity, nil); !acquired || err != nil {
			t.Fatal(acquired, err)
		}
	}
	if n, err := flocklock.ReleaseAllScopedLocks(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	mustRefuse(t, dir, flocklock.StandingUnknown) // its record went with the rename
	readFile(t, filepath.Join(string(dir), legacyName))
	if n, err := flocklock.ReleaseAllScopedLocks(); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// 28: an error is never a lock.
func TestRow28ErrorIsNoLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HERMES_GATEWAY_LOCK_DIR", file)
	if acquired, existing, err := flocklock.AcquireScopedLock(scope, secret, nil); acquired || existing != nil || err == nil {
		t.Error(acquired, existing, err)
	}
	if acquired, _, err := flocklock.AcquireScopedLock("../evil", secret, nil); acquired || err == nil {
		t.Error(acquired, err)
	}
	if err := flocklock.ReleaseScopedLock("../evil", secret); err == nil {
		t.Error("no error")
	}
}

// 26: the directory is the old gateways', absolute, and never silently another.
func TestRow26DefaultDir(t *testing.T) {
	home := t.TempDir()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(home, "state")
	for what, c := range map[string]struct {
		override, xdg, want string
		warns               bool
	}{
		"override":          {filepath.Join(home, "x"), state, filepath.Join(home, "x"), false},
		"relative override": {"x", "", filepath.Join(wd, "x"), false},
		"XDG":               {"", state, filepath.Join(state, "hermes", "gateway-locks"), false},
		"relative XDG":      {"", "state", filepath.Join(home, ".local", "state", "hermes", "gateway-locks"), true},
		"empty XDG":         {"", "", filepath.Join(home, ".local", "state", "hermes", "gateway-locks"), true},
	} {
		var warned bytes.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&warned, nil)))
		t.Setenv("HOME", home)
		t.Setenv("USERPROFILE", home)
		t.Setenv("HERMES_GATEWAY_LOCK_DIR", c.override)
		t.Setenv("XDG_STATE_HOME", c.xdg)
		got, err := flocklock.DefaultDir()
		slog.SetDefault(slog.New(slog.DiscardHandler))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v", what, got, err)
		}
		if strings.Contains(warned.String(), "XDG_STATE_HOME") != c.warns {
			t.Errorf("%s: warned %q", what, warned.String())
		}
		if _, err := os.Stat(string(got)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: created %s", what, got)
		}
	}
	for _, variable := range []string{"HERMES_GATEWAY_LOCK_DIR", "XDG_STATE_HOME", "HOME", "USERPROFILE"} {
		os.Unsetenv(variable)
	}
	switch got, err := flocklock.DefaultDir(); {
	case err != nil && !strings.Contains(err.Error(), "set HERMES_GATEWAY_LOCK_DIR"):
		t.Errorf("without HOME: %v", err)
	case err == nil && !filepath.IsAbs(string(got)):
		t.Errorf("without HOME: %q", got)
	case runtime.GOOS == "linux" && string(got) != underHomeOf(t, os.Getuid()):
		t.Errorf("without HOME: %q, want %q", got, underHomeOf(t, os.Getuid()))
	}
}

// underHomeOf is the default directory of a user by passwd(5), "" where that does
// not know the user.
func underHomeOf(t *testing.T, uid int) string {
	for line := range strings.Lines(readFile(t, "/etc/passwd")) {
		if fields := strings.Split(line, ":"); len(fields) == 7 && fields[2] == fmt.Sprint(uid) {
			return filepath.Join(fields[5], ".local", "state", "hermes", "gateway-locks")
		}
	}
	return ""
}

func TestInUse(t *testing.T) {
	const desc = "Telegram bot token"
	unknown := desc + " already in use. Stop the other gateway first."
	plain := desc + " already in use (PID 450). Stop the other gateway first."
	profile := desc + " already in use by the 'work' profile gateway (PID 450). Stop that gateway first (hermes --profile work gateway stop)."
	for _, c := range []struct {
		record *flocklock.Record
		want   string
	}{
		{nil, unknown},
		{&flocklock.Record{}, unknown},
		{&flocklock.Record{Profile: "work"}, unknown},
		{&flocklock.Record{PID: 450}, plain},
		{&flocklock.Record{PID: 450, HermesHome: "/home/u/.hermes"}, plain},
		{&flocklock.Record{PID: 450, HermesHome: "/home/u/.hermes/profiles/Not A Profile"}, plain},
		{&flocklock.Record{PID: 450, Profile: "Not A Profile"}, plain},
		{&flocklock.Record{PID: 450, Profile: "work"}, profile},
		{&flocklock.Record{PID: 450, HermesHome: "/home/u/.hermes/profiles/work"}, profile},
		{&flocklock.Record{PID: 450, HermesHome: "/home/u/.hermes/profiles/work/"}, profile},
		{&flocklock.Record{PID: 450, HermesHome: `C:\Users\u\.hermes\profiles\work`}, profile},
	} {
		if got := c.record.InUse(desc); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.record, got, c.want)
		}
	}
}

// The names of the files are the old ones, on every system.
func TestNames(t *testing.T) {
	dir := newDir(t)
	l, err := dir.TryAcquire("telegram-bot-token", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	readFile(t, filepath.Join(string(dir), "telegram-bot-token-2bb80d537b1da3e3.lock"))
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(filepath.Join(string(dir), "telegram-bot-token-2bb80d537b1da3e3.flock")); err != nil || info.Size() != 0 {
			t.Error(info, err)
		}
	}
}
