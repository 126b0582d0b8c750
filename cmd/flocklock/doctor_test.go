package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	lock "github.com/flocklock/flocklock"
)

func init() {
	// both holds two locks.
	workers["both"] = func(args []string) {
		for _, scope := range []string{scope, "irc"} {
			if _, err := lock.Dir(args[0]).TryAcquire(scope, secret); err != nil {
				fmt.Println(err)
			}
		}
		echo()
	}
}

// A diagnosis is what doctor --json prints.
type diagnosis struct {
	Directory, Reason string
	Findings          []finding
}

type finding struct {
	ID, Severity, Path, What, Why, Mend string
	Fixed                               bool
}

// diagnose runs the doctor on a directory.
func diagnose(t *testing.T, dir string, flags ...string) diagnosis {
	t.Helper()
	return diagnosed(t, flocklock(slices.Concat([]string{"doctor", "--json", "--dir", dir}, flags)...))
}

// diagnosed runs a doctor --json, checks the shape of what it prints and that
// its exit code is what the findings amount to.
func diagnosed(t *testing.T, cmd *exec.Cmd) diagnosis {
	t.Helper()
	r := finish(t, cmd)
	raw := object(t, r.stdout, "directory", "reason", "findings")
	var d diagnosis
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
		t.Fatal(err)
	}
	if raw["findings"] == nil || d.Directory == "" || d.Reason == "" || r.stderr != "" && !strings.Contains(r.stderr, "XDG_STATE_HOME") {
		t.Errorf("stdout: %s\nstderr: %s", r.stdout, r.stderr)
	}
	want := 0
	for i, f := range d.Findings {
		text, _ := json.Marshal(raw["findings"].([]any)[i])
		object(t, string(text)+"\n", "id", "severity", "path", "what", "why", "mend", "fixed")
		if f.ID == "" || f.Path == "" || f.What == "" || f.Why == "" || f.Mend == "" || f.Severity != "problem" && f.Severity != "note" {
			t.Errorf("not a whole finding: %+v", f)
		}
		switch {
		case f.ID == "cannot-look":
			want = 66
		case f.Severity == "problem" && !f.Fixed && want == 0:
			want = 1
		}
	}
	if r.code != want {
		t.Errorf("exit code %d, want %d with %s", r.code, want, r.stdout)
	}
	return d
}

// of returns the findings with an ID.
func (d diagnosis) of(id string) (found []finding) {
	for _, f := range d.Findings {
		if f.ID == id {
			found = append(found, f)
		}
	}
	return found
}

// has returns the only finding with an ID, which must be of a severity.
func (d diagnosis) has(t *testing.T, id, severity string) finding {
	t.Helper()
	found := d.of(id)
	if len(found) != 1 || found[0].Severity != severity {
		t.Fatalf("not one %s %s: %+v", severity, id, d.Findings)
	}
	return found[0]
}

// hasNot makes sure that there is no finding with any of some IDs.
func (d diagnosis) hasNot(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if found := d.of(id); len(found) > 0 {
			t.Errorf("%s: %+v", id, found)
		}
	}
}

// healthy makes sure that there is no problem but with where temporary files
// are on this machine.
func (d diagnosis) healthy(t *testing.T) {
	t.Helper()
	for _, f := range d.Findings {
		if f.Severity == "problem" && !f.Fixed && f.ID != "temporary-cleaned" {
			t.Errorf("a problem: %+v", f)
		}
	}
}

func TestDoctorClean(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "locks")
	d := diagnose(t, dir, "--fix")
	d.healthy(t)
	same(t, "directory", d.Directory, dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the doctor made the directory")
	}
	expect(t, 0, running(dir, nil, "exit", "0")...)
	for _, flags := range [][]string{nil, {"--fix"}} {
		diagnose(t, dir, flags...).healthy(t)
		same(t, "files", files(t, dir), []string{name + ".flock"})
	}
}

// inEnvironment runs the doctor without --dir, with nothing but these variables
// to find the directory by.
func inEnvironment(t *testing.T, env ...string) diagnosis {
	t.Helper()
	cmd := flocklock("doctor", "--json")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "XDG_STATE_HOME=") || strings.HasPrefix(v, "HERMES_GATEWAY_LOCK_DIR=") || strings.HasPrefix(v, "SUDO_USER=")
	})
	cmd.Env = append(cmd.Env, env...)
	return diagnosed(t, cmd)
}

func homeIs(home string) []string { return []string{"HOME=" + home, "USERPROFILE=" + home} }

func locksBelow(state string) string { return filepath.Join(state, "hermes", "gateway-locks") }

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRow26Reason: it is told which directory it is and why.
func TestRow26Reason(t *testing.T) {
	t.Parallel()
	home, state, named := t.TempDir(), t.TempDir(), t.TempDir()
	atHome := locksBelow(filepath.Join(home, ".local", "state"))
	for _, c := range []struct {
		env         []string
		dir, reason string
	}{
		{nil, atHome, "neither HERMES_GATEWAY_LOCK_DIR nor XDG_STATE_HOME is set"},
		{[]string{"XDG_STATE_HOME=" + state}, locksBelow(state), "below XDG_STATE_HOME"},
		{[]string{"XDG_STATE_HOME=" + state, "HERMES_GATEWAY_LOCK_DIR=" + named}, named, "HERMES_GATEWAY_LOCK_DIR names it"},
		{[]string{"XDG_STATE_HOME=relative"}, atHome, "XDG_STATE_HOME is not an absolute path"},
		{[]string{"XDG_STATE_HOME="}, atHome, "XDG_STATE_HOME is not an absolute path"},
	} {
		d := inEnvironment(t, append(homeIs(home), c.env...)...)
		if d.Directory != c.dir || !strings.Contains(d.Reason, c.reason) {
			t.Errorf("with %q: %s, %s", c.env, d.Directory, d.Reason)
		}
		if strings.Contains(c.reason, "not an absolute") {
			d.has(t, "xdg-state-home", "problem")
		} else {
			d.hasNot(t, "xdg-state-home")
		}
	}
	same(t, "--dir", diagnose(t, named).Reason, "--dir names it")
}

// TestRow26Elsewhere: another directory is told of, and is a problem where the
// same lock is held there.
func TestRow26Elsewhere(t *testing.T) {
	t.Parallel()
	home, state := t.TempDir(), t.TempDir()
	env := append(homeIs(home), "XDG_STATE_HOME="+state)
	theirs, ours := locksBelow(filepath.Join(home, ".local", "state")), mkdir(t, locksBelow(state))
	there := func(d diagnosis) (found []finding) {
		for _, f := range d.of("directory-elsewhere") {
			if f.Path == theirs {
				found = append(found, f)
			}
		}
		return found
	}
	same(t, "before it exists", there(inEnvironment(t, env...)), []finding{})

	mkdir(t, theirs)
	severity := func(want, said string) {
		t.Helper()
		found := there(inEnvironment(t, env...))
		if len(found) != 1 || found[0].Severity != want || !strings.Contains(found[0].What, said) ||
			!strings.Contains(found[0].Mend, "HERMES_GATEWAY_LOCK_DIR=") || !strings.Contains(found[0].Mend, filepath.Base(ours)) {
			t.Errorf("not a %s that says %q: %+v", want, said, found)
		}
	}
	severity("note", "where XDG_STATE_HOME is not set")
	holder := hold(t, theirs)
	severity("note", "A lock is held there: "+scope+" is held by ")
	expect(t, 0, running(ours, nil, "exit", "0")...) // both hold
	severity("problem", "The same lock as here is held there: "+scope+" is held by ")
	holder.stdin.Close()
	holder.wait()
	severity("note", "where XDG_STATE_HOME is not set")
	same(t, "files elsewhere", files(t, theirs), []string{name + ".flock"})
}

// TestRow26OtherUser: so is the directory of another user or service.
func TestRow26OtherUser(t *testing.T) {
	t.Parallel()
	homes := t.TempDir()
	theirs := mkdir(t, locksBelow(filepath.Join(homes, "theirs", ".local", "state")))
	home := homeIs(mkdir(t, filepath.Join(homes, "ours")))
	linked := os.Symlink("ours", filepath.Join(homes, "linked"))
	mkdir(t, inEnvironment(t, home...).Directory)
	d := inEnvironment(t, home...)
	for _, f := range d.Findings {
		if linked == nil && strings.Contains(f.Path, "linked") {
			t.Errorf("it is ours by another name: %+v", f)
		}
	}
	if !slices.ContainsFunc(d.of("directory-elsewhere"), func(f finding) bool {
		return f.Path == theirs && f.Severity == "note" && strings.Contains(f.What, "run by theirs")
	}) {
		t.Errorf("findings: %+v", d.Findings)
	}
}

// TestRow38Held: a held lock is nothing wrong, so that a service is not kept
// from trying again.
func TestRow38Held(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := hold(t, dir)
	for _, flags := range [][]string{nil, {"--fix"}} {
		d := diagnose(t, dir, flags...)
		d.hasNot(t, "holder-unknown", "holder-stopped", "leftovers")
		for _, f := range d.Findings {
			if f.Severity == "problem" && f.ID != "temporary-cleaned" && f.ID != "command-line-not-gateway" {
				t.Errorf("a problem: %+v", f)
			}
		}
	}
	same(t, "files", files(t, dir), []string{name + ".flock", name + ".lock"})
	holder.ping()
	same(t, "state", state(t, dir), "held")
}

// TestRow37Row42Leftovers: what processes left is told of, and removed by --fix, so
// that nobody needs to.
func TestRow37Row42Leftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	putLegacy(t, dir)
	record := name + ".lock"
	f := diagnose(t, dir).has(t, "leftovers", "note")
	if f.Fixed || f.Path != filepath.Join(dir, record) || !strings.Contains(f.What, "no process has PID") || !strings.HasPrefix(f.Mend, "flocklock doctor --fix --dir ") {
		t.Errorf("one leftover: %+v", f)
	}
	for _, left := range []string{record + ".stale", "." + name + "_abcdefgh.tmp", "." + name + ".old"} {
		old := time.Now().Add(-2 * time.Minute)
		if err := os.Chtimes(write(t, filepath.Join(dir, left), "{}"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, dir)
	f = diagnose(t, dir).has(t, "leftovers", "note")
	if f.Fixed || f.Path != dir || !strings.Contains(f.What, " and 1 more") {
		t.Errorf("several leftovers: %+v", f)
	}
	same(t, "files", files(t, dir), before)
	if f := diagnose(t, dir, "--fix").has(t, "leftovers", "note"); !f.Fixed {
		t.Errorf("not mended: %+v", f)
	}
	same(t, "files after --fix", files(t, dir), []string{name + ".flock"})
	d := diagnose(t, dir, "--fix")
	d.hasNot(t, "leftovers")
	d.healthy(t)
}

// oldGateway is a process with the command line of an old gateway, and its
// record without a start time.
func oldGateway(t *testing.T, dir string) *proc {
	t.Helper()
	p := start(t, flocklock("worker", "echo", "hermes", "gateway"))
	p.expect("pid ")
	write(t, filepath.Join(dir, name+".lock"), fmt.Sprintf(
		`{"pid": %d, "kind": "hermes-gateway", "argv": ["hermes", "gateway"], "start_time": null, "updated_at": %q}`,
		p.cmd.Process.Pid, time.Now().UTC().Format("2006-01-02T15:04:05.000000-07:00")))
	return p
}

// TestRow02Incomplete: --fix fills in since when an old gateway runs.
func TestRow02Incomplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := oldGateway(t, dir)
	d := diagnose(t, dir)
	d.has(t, "holder-legacy", "note")
	if f := d.has(t, "records-incomplete", "note"); f.Fixed {
		t.Errorf("mended without --fix: %+v", f)
	}
	if f := diagnose(t, dir, "--fix").has(t, "records-incomplete", "note"); !f.Fixed {
		t.Errorf("not mended: %+v", f)
	}
	text, err := os.ReadFile(filepath.Join(dir, name+".lock"))
	if err != nil || strings.Contains(string(text), `"start_time":null`) || !strings.Contains(string(text), `"start_time"`) {
		t.Errorf("the record: %s, %v", text, err)
	}
	d = diagnose(t, dir, "--fix")
	d.has(t, "holder-legacy", "note")
	d.hasNot(t, "records-incomplete", "leftovers")
	p.ping()
	same(t, "state", state(t, dir), "held")
}

// TestRow45CommandLine: the newest old gateways would take the lock of a process
// that is not named as a gateway is.
func TestRow45CommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	young := write(t, filepath.Join(dir, name+".lock.stale"), "{}") // a trace of theirs
	holder := start(t, flocklock("worker", "both", dir))
	holder.expect("pid ")
	f := diagnose(t, dir, "--fix").has(t, "command-line-not-gateway", "problem") // one for both locks
	if !strings.Contains(f.What, fmt.Sprintf("PID %d", holder.cmd.Process.Pid)) || !strings.Contains(f.Mend, "hermes-gateway") {
		t.Errorf("finding: %+v", f)
	}
	holder.stdin.Close()
	holder.wait()

	cmd := flocklock(running(dir, nil, "echo")...)
	cmd.Args[0] = "hermes-gateway"
	start(t, cmd).expect("pid ")
	same(t, "state", state(t, dir), "held")
	diagnose(t, dir).hasNot(t, "command-line-not-gateway")
	if _, err := os.Lstat(young); err != nil {
		t.Error("the trace has gone, so that there was nothing to find: ", err)
	}
}

// TestRow12Directory: a directory in a record's place is told of and left.
func TestRow12Directory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := mkdir(t, filepath.Join(dir, name+".lock"))
	if f := diagnose(t, dir, "--fix").has(t, "record-is-directory", "problem"); f.Path != path || f.Fixed {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), []string{name + ".flock", name + ".lock"})
	path = mkdir(t, filepath.Join(dir, "irc-"+hashOf("another")+".flock"))
	if f := diagnose(t, dir).has(t, "file-unusable", "problem"); f.Path != path {
		t.Errorf("finding: %+v", f)
	}
}

// TestRow30TwoProcesses: the other process is asked whether it got the lock too.
func TestRow30TwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := flocklock("doctor", "--json", "--dir", dir)
	cmd.Env = append(cmd.Env, sabotageEnv+"=doctor-prober")
	if f := diagnosed(t, cmd).has(t, "locks-do-not-exclude", "problem"); !strings.Contains(f.What, "two processes") {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), []string{})
}

func TestDoctorScratchLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left, used := mkdir(t, filepath.Join(dir, ".flocklock-doctor-1")), mkdir(t, filepath.Join(dir, ".flocklock-doctor-2"))
	write(t, filepath.Join(left, "doctor-0123456789abcdef.flock"), "")
	old := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	if f := diagnose(t, dir).has(t, "scratch-left", "note"); f.Path != left || f.Fixed {
		t.Errorf("finding: %+v", f)
	}
	if f := diagnose(t, dir, "--fix").has(t, "scratch-left", "note"); f.Path != left || !f.Fixed {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), []string{filepath.Base(used)})
}

func TestDoctorCannotLook(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "file"), "no directory")
	if f := diagnose(t, file, "--fix").has(t, "cannot-look", "problem"); f.Path != file || !strings.Contains(f.What, "not a directory") {
		t.Errorf("finding: %+v", f)
	}
	words := expect(t, 66, "doctor", "--dir", file)
	if !strings.Contains(words.stdout, "(cannot-look)") || words.stderr != "" {
		t.Errorf("in words: %+v", words)
	}
}

// TestDoctorWords: what a person reads fits the terminal.
func TestDoctorWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mkdir(t, filepath.Join(dir, name+".lock"))
	old := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(write(t, filepath.Join(dir, name+".lock.stale"), "{}"), old, old); err != nil {
		t.Fatal(err)
	}
	r := expect(t, 1, "doctor", "--fix", "--dir", dir)
	for _, want := range []string{"The lock directory is ", "\n\nproblem (record-is-directory)", "To mend it:", "\n\nmended (leftovers)", " 1 mended.\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	for line := range strings.Lines(r.stdout) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "  To mend it: ") && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("more than 80 columns: %s", line)
		}
		if strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("control characters: %q", line)
		}
	}
	same(t, "stderr", r.stderr, "")
}
