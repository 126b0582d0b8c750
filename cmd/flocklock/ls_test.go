package main_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

var statusKeys = []string{"name", "scope", "identity_hash", "state", "standing", "leftover", "record", "message"}

// lines is what a command printed, line by line.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func TestLs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	same(t, "no directory", expect(t, 0, "ls", "--dir", dir), result{0, "There are no locks in " + dir + ".\n", ""})
	same(t, "no directory in JSON", expect(t, 0, "ls", "--dir", dir, "--json"), result{})

	holder := hold(t, dir, "--profile", "work")
	write(t, filepath.Join(dir, "slack-0123456789abcdef.flock"), "")
	write(t, filepath.Join(dir, "xmpp-0123456789abcdef.lock"), "")
	write(t, filepath.Join(dir, "README"), "")
	got := lines(expect(t, 0, "ls", "--dir", dir).stdout)
	for i, want := range [][]string{
		{"SCOPE", "STATE", "HOLDER", "SINCE", "STANDING"},
		{"slack", "free"},
		{scope, "held", fmt.Sprint(holder.cmd.Process.Pid, " (work) "), "verified"},
		{"xmpp"},
	} {
		for _, part := range want {
			if i >= len(got) || !strings.Contains(got[i], part) {
				t.Errorf("no %q in line %d of %q", part, i, got)
			}
		}
	}
	if strings.ContainsAny(strings.Join(got, ""), "\x1b\r\t") || len(got) != 4 {
		t.Errorf("%q", got)
	}

	listed := lines(expect(t, 0, "ls", "--dir", dir, "--json").stdout)
	same(t, "listed", len(listed), 3)
	for _, line := range listed {
		object(t, line+"\n", statusKeys...)
	}
	want := status(t, dir)
	like := object(t, listed[1]+"\n", statusKeys...)
	delete(want, "message") // it counts the seconds
	delete(like, "message")
	delete(want, "holders") // would cost ls a look at every process
	delete(want, "holders_reason")
	same(t, "the lock in ls --json", like, want)
}

func TestLsFails(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "file"), "")
	for _, flags := range [][]string{nil, {"--json"}, {"--watch"}, {"--watch", "--json"}} {
		r := expect(t, 66, append([]string{"ls", "--dir", file}, flags...)...)
		same(t, "stdout", r.stdout, "")
	}
	for _, args := range [][]string{{secret}, {"--" + secret}, {"--dir", ""}, {"--json=" + secret}} {
		expect(t, 64, append([]string{"ls"}, args...)...)
	}
}

// TestLsInPart: what can be looked at is listed all the same.
func TestLsInPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "slack-0123456789abcdef.flock"), "")
	for _, hash := range []string{"0123456789abcdef", "1123456789abcdef"} {
		if err := os.Mkdir(filepath.Join(dir, "discord-"+hash+".flock"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := expect(t, 1, "ls", "--dir", dir)
	same(t, "stdout", r.stdout, "SCOPE  STATE\nslack  free\n")
	if !strings.HasPrefix(r.stderr, "flocklock: 2 locks could not be looked at; the first: ") || len(lines(r.stderr)) != 1 {
		t.Errorf("stderr: %s", r.stderr)
	}
	r = expect(t, 1, "ls", "--dir", dir, "--json")
	same(t, "locks in JSON", len(lines(r.stdout)), 1)
}

func TestLsWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	watcher := start(t, flocklock("ls", "--dir", dir, "--watch"))
	watcher.expect("There are no locks in ")
	holder := hold(t, dir)
	same(t, "a line between", watcher.expect(""), "")
	watcher.expect("SCOPE ")
	if line := watcher.expect(scope); !strings.Contains(line, " held ") {
		t.Errorf("the watcher says %q", line)
	}
	holder.stdin.Close()
	same(t, "exit code", holder.wait(), 0)
	same(t, "a line between", watcher.expect(""), "")
	watcher.expect("SCOPE ")
	if line := watcher.expect(scope); !strings.Contains(line, " free") {
		t.Errorf("the watcher says %q", line)
	}
}

func TestLsWatchJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "slack-0123456789abcdef.flock"), "")
	watcher := start(t, flocklock("ls", "--dir", dir, "--watch", "--json"))
	next := func(scope, state string) {
		t.Helper()
		got := object(t, watcher.expect("")+"\n", statusKeys...)
		same(t, "what changed", fmt.Sprint(got["scope"], got["state"]), scope+state)
	}
	next("slack", "free")
	holder := hold(t, dir)
	next(scope, "held") // and nothing of slack, or of the seconds
	holder.stdin.Close()
	same(t, "exit code", holder.wait(), 0)
	next(scope, "free")
	hold(t, dir)
	next(scope, "held")
	if err := os.Remove(filepath.Join(dir, "slack-0123456789abcdef.flock")); err != nil {
		t.Fatal(err)
	}
	leftover := write(t, filepath.Join(dir, "xmpp-0123456789abcdef.lock"), "[]")
	next("xmpp", "free")
	if err := os.Remove(leftover); err != nil {
		t.Fatal(err)
	}
	next("xmpp", "free") // now without what was left
}

func TestLsMany(t *testing.T) {
	const limit = time.Second
	locks := 10_000
	if runtime.GOOS == "windows" {
		locks = 1000 // Wine looks through a whole directory for each of its files
	}
	dir := t.TempDir()
	for i := range locks {
		write(t, filepath.Join(dir, fmt.Sprintf("scope%d-%016x.flock", i%100, i)), "")
	}
	best := time.Duration(math.MaxInt64)
	for range 5 { // a machine may be busy
		began := time.Now()
		r := expect(t, 0, "ls", "--dir", dir, "--json")
		best = min(best, time.Since(began))
		same(t, "locks", len(lines(r.stdout)), locks)
		if best < limit {
			break
		}
	}
	t.Log(locks, " locks in ", best)
	// Elsewhere a virus scanner may look at each file too.
	if best > limit && runtime.GOOS == "linux" && !raceDetector {
		t.Errorf("%d locks take %s", locks, best)
	}
}

var raceDetector bool
