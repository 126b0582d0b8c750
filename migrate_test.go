package flocklock_test

// Legacy records: every verdict, and what the migrator makes of it. Numbers
// are rows of the catalogue of failures of the old lock.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

func contains(s string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// owns sees that what stands at the record's path keeps the lock, for a reason,
// and that asking changes nothing.
func owns(t *testing.T, dir flocklock.Dir, reason string) {
	t.Helper()
	before := readFile(t, recordPath(dir))
	refused := mustRefuse(t, dir, flocklock.StandingLegacy)
	if !contains(refused.Error(), reason, "old gateway") || refused.Holder.Record == nil {
		t.Errorf("refused with %v, want %q", refused, reason)
	}
	status, err := dir.Inspect(scope, secret)
	if err != nil || status.State != flocklock.Held || status.Holder.Standing != flocklock.StandingLegacy {
		t.Errorf("inspect: %+v, %v", status, err)
	}
	if after := readFile(t, recordPath(dir)); after != before {
		t.Errorf("changed to %s", after)
	}
}

// leaves sees that what stands at the record's path keeps nobody out, for a
// reason that a dry run of the migrator tells, and that it is gone afterwards.
func leaves(t *testing.T, dir flocklock.Dir, reason string) {
	t.Helper()
	before := files(t, dir)
	report, err := dir.Migrate(flocklock.MigrateOptions{DryRun: true})
	if err != nil || len(report) != 1 || report[0].Action != flocklock.Removed || !contains(report[0].Reason, reason) {
		t.Errorf("dry run: %+v, %v; want %q", report, err, reason)
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("a dry run made %v of %v", after, before)
	}
	mustSettle(t, dir)
}

// earlier is when a record was written that is older than a process of this test,
// and younger than this system.
const earlier = -10 * time.Second

// 01: the owner was killed, its PID belongs to something else, and the record
// does not say since when the owner ran. It is the report that this project
// began with.
func TestRow01RecycledPID(t *testing.T) {
	for what, now := range map[string]*proc{"a stranger": stranger(t), "a gateway": gateway(t)} {
		t.Run(what, func(t *testing.T) {
			dir := newDir(t)
			putLegacy(t, dir, now.pid(), legacy{"updated_at": isoNow(earlier)})
			leaves(t, dir, "after the record was written")
		})
	}
}

// 02: the start time is null and the owner lives: it keeps the lock, and the
// migrator fills in what was missing.
func TestRow02NullStartTime(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	for _, missing := range []any{nil, drop} {
		putLegacy(t, dir, owner.pid(), legacy{"start_time": missing, "x-unknown": "kept"})
		owns(t, dir, "runs a gateway's command line")
		dry, err := dir.Migrate(flocklock.MigrateOptions{DryRun: true})
		if err != nil || len(dry) != 1 || dry[0].Action != flocklock.Converted {
			t.Fatalf("%+v, %v", dry, err)
		}
		report, err := dir.Migrate(flocklock.MigrateOptions{})
		if err != nil || !slices.Equal(report, dry) {
			t.Fatalf("dry run %+v, then %+v, %v", dry, report, err)
		}
		var keys map[string]any
		if err := json.Unmarshal([]byte(readFile(t, recordPath(dir))), &keys); err != nil {
			t.Fatal(err)
		}
		if keys["x-unknown"] != "kept" || keys["format"] != nil || keys["start_time"] != float64(startOf(t, owner.pid())) || len(keys) != 9 {
			t.Errorf("converted to %v", keys)
		}
		owns(t, dir, "since the time that the record says")
		if report, err = dir.Migrate(flocklock.MigrateOptions{}); err != nil || report[0].Action != flocklock.Kept {
			t.Errorf("again: %+v, %v", report, err)
		}
	}
	owner.kill()
	leaves(t, dir, "no process has PID")
}

// 03: another gateway has the PID by now.
func TestRow03RecycledByGateway(t *testing.T) {
	dir := newDir(t)
	now := gateway(t)
	putLegacy(t, dir, now.pid(), legacy{"start_time": startOf(t, now.pid()) - 100_000})
	leaves(t, dir, "another process by now")
}

// 04: after a reboot both the PID and the start coincide.
func TestRow04Reboot(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" && runtime.GOOS != "windows" {
		t.Skip("this system does not tell when it was started")
	}
	dir := newDir(t)
	now := gateway(t)
	putLegacy(t, dir, now.pid(), legacy{"start_time": startOf(t, now.pid()), "updated_at": "2001-02-03T04:05:06.000007+00:00"})
	leaves(t, dir, "before this system started")
	host, _ := os.Hostname()
	putLegacy(t, dir, now.pid(), legacy{"start_time": startOf(t, now.pid()), "boot_id": "another", "host": host})
	if runtime.GOOS != "windows" {
		leaves(t, dir, "before this system started")
	}
}

// 06: the file is empty or was cut short.
func TestRow06CutShort(t *testing.T) {
	dead := stranger(t)
	dead.kill()
	whole := `{"pid": ` + jsonPID(dead.pid())[6:] + `, "kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"]}`
	texts := map[string]string{}
	for end := range len(whole) {
		texts[whole[:end]] = ""
	}
	leave(t, texts)
	for _, end := range []int{0, 5, len(whole) / 2} {
		dir := newDir(t)
		put(t, dir, whole[:end])
		leaves(t, dir, "")
	}
}

// leave is leaves for many texts in one directory.
func leave(t *testing.T, texts map[string]string) {
	t.Helper()
	dir := newDir(t)
	reasons := map[string]string{}
	aMinuteAgo := time.Now().Add(-time.Minute) // nobody is writing it any more
	for text, reason := range texts {
		path := filepath.Join(string(dir), fmt.Sprintf("s-%016x.lock", len(reasons)))
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, aMinuteAgo, aMinuteAgo)); err != nil {
			t.Fatal(err)
		}
		reasons[filepath.Base(path)] = reason
	}
	for _, dryRun := range []bool{true, false} {
		report, err := dir.Migrate(flocklock.MigrateOptions{DryRun: dryRun})
		if err != nil || len(report) != len(texts) {
			t.Fatalf("%+v, %v", report, err)
		}
		for _, m := range report {
			if m.Action != flocklock.Removed || !contains(m.Reason, reasons[m.Name]) {
				t.Errorf("%+v, want %q", m, reasons[m.Name])
			}
		}
	}
	for _, file := range files(t, dir) {
		if !strings.HasSuffix(file, ".flock") {
			t.Errorf("left behind: %s", file)
		}
	}
}

// 10: a pid that is no PID.
func TestRow10OddPID(t *testing.T) {
	texts := map[string]string{
		`{}`:                    "not a process number",
		`{"PID": 1}`:            "not a process number",
		`{"pid": Infinity}`:     "not a record",
		`{"pid": NaN}`:          "not a record",
		`null`:                  "not a record",
		`[]`:                    "not a record",
		`"x"`:                   "not a record",
		`true`:                  "not a record",
		`-5`:                    "not a record",
		`0`:                     "not a record",
		`99999999999999999999`:  "not a record",
		`{"pid": 99999999999,`:  "not a record",
		`{"pid": 2.5, "kind": `: "not a record",
	}
	for _, pid := range []string{"0", "-1", "1180591620717411303424", "2147483648", "1.0", "1e3", "true", "null", `"123"`, "[1]", "{}"} {
		texts[`{"pid": `+pid+`, "kind": "hermes-gateway", "argv": ["hermes", "gateway", "run"]}`] = "not a process number"
	}
	leave(t, texts)
}

// 11: binary, NUL bytes, a byte-order mark, deep nesting.
func TestRow11Binary(t *testing.T) {
	leave(t, map[string]string{
		strings.Repeat("\x00", 500):            "not a record",
		"\x7fELF\x02\x01\x01\x00\xff\xfe":      "not a record",
		"\xff\xfe{\x00}\x00":                   "not a record",
		`{"pid": "` + "\xc3":                   "not a record",
		strings.Repeat("[", 60_000):            "not a record",
		strings.Repeat(`{"pid":`, 9_000):       "not a record",
		strings.Repeat(" ", 65_000) + `{"pid"`: "not a record",
	})
	dir := newDir(t)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	put(t, dir, "\xef\xbb\xbf"+readFile(t, recordPath(dir)))
	owns(t, dir, "runs a gateway's command line")
	if report, err := dir.Migrate(flocklock.MigrateOptions{}); err != nil || report[0].Action != flocklock.Converted {
		t.Errorf("%+v, %v", report, err)
	}
	owns(t, dir, "since the time")
}

// 15: a PID-only or damaged file of an owner that lives.
func TestRow15PIDOnlyOrDamaged(t *testing.T) {
	owner := gateway(t)
	pid := jsonPID(owner.pid())[6:]
	for _, text := range []string{pid, " " + pid + "\n", `{"pid": ` + pid + `, "kind": "herm`, `{"kind":"hermes-gateway","pid":` + pid + `,}`} {
		dir := newDir(t)
		put(t, dir, text)
		owns(t, dir, "runs a gateway's command line")
		report, err := dir.Migrate(flocklock.MigrateOptions{})
		if err != nil || len(report) != 1 || report[0].Action != flocklock.Converted {
			t.Fatalf("%q: %+v, %v", text, report, err)
		}
		var r flocklock.Record
		if err := json.Unmarshal([]byte(readFile(t, recordPath(dir))), &r); err != nil || r.PID != owner.pid() ||
			r.Scope != scope || r.IdentityHash != name[len(scope)+1:] || *r.StartTime != startOf(t, owner.pid()) || r.Format != 0 {
			t.Errorf("%q became %+v, %v", text, r, err)
		}
		owns(t, dir, "since the time that the record says")
	}

	dir := newDir(t)
	put(t, dir, pid)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(recordPath(dir), old, old); err != nil {
		t.Fatal(err)
	}
	leaves(t, dir, "written")

	put(t, dir, jsonPID(stranger(t).pid())[6:])
	leaves(t, dir, "is no gateway")

	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	put(t, dir, "damaged")
	mustRefuse(t, dir, flocklock.StandingUnknown)
}

// 16: the owner's command line does not look like a gateway's.
func TestRow16OddCommandLine(t *testing.T) {
	dir := newDir(t)
	owner := stranger(t)
	putLegacy(t, dir, owner.pid(), legacy{"start_time": startOf(t, owner.pid()), "argv": []string{"launcher"}})
	owns(t, dir, "since the time that the record says")
	putLegacy(t, dir, owner.pid(), legacy{"argv": []string{"launcher"}})
	looks := flocklock.WithLooksLikeGateway(func(argv []string) bool { return len(argv) > 0 })
	if l, err := tryAcquire(t, dir, looks); l != nil {
		t.Errorf("stolen with the caller's own function: %v", err)
	}
	report, err := dir.Migrate(flocklock.MigrateOptions{LooksLikeGateway: func([]string) bool { return true }})
	if err != nil || report[0].Action != flocklock.Converted {
		t.Errorf("%+v, %v", report, err)
	}
	putLegacy(t, dir, owner.pid(), nil)
	leaves(t, dir, "is no gateway")
}

// 17: the start time of a living process drifts with the clock, where it is a
// time of the clock. Ticks do not drift and must be equal.
func TestRow17DriftingStart(t *testing.T) {
	owner := gateway(t)
	start := startOf(t, owner.pid())
	for drift, same := range map[int64]bool{
		0: true, 1: runtime.GOOS != "linux", -150: runtime.GOOS != "linux", 250: false, -100_000: false,
	} {
		dir := newDir(t)
		putLegacy(t, dir, owner.pid(), legacy{"start_time": start + drift})
		if same {
			owns(t, dir, "since the time that the record says")
		} else {
			leaves(t, dir, "another process by now")
		}
	}
}

// 39: asking about a process does nothing to it.
func TestRow39AskingHarmsNobody(t *testing.T) {
	dir := newDir(t)
	owner, other := gateway(t), stranger(t)
	for _, p := range []*proc{owner, other} {
		for range 5 {
			putLegacy(t, dir, p.pid(), nil)
			if l, err := dir.TryAcquire(scope, secret); err == nil {
				l.Release()
			}
		}
		if p.finish(); !p.cmd.ProcessState.Success() {
			t.Errorf("the process ended as %v", p.cmd.ProcessState)
		}
	}
}

// 42: leftovers of the old writer, and of ours.
func TestRow42Leftovers(t *testing.T) {
	dir := newDir(t)
	old := time.Now().Add(-time.Hour)
	young := []string{name + ".lock.stale", "." + name + "_a1b2c3d4.tmp"}
	own := []string{"." + name + ".tmp", "." + name + ".old"}
	others := []string{"gateway.pid", "." + name + ".swp", "x.tmp", "gateway.lock", ".tmp", "_XXXXXXXX.tmp", ".lock"}
	for _, n := range slices.Concat(young, own, others) {
		path := filepath.Join(string(dir), n)
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	migrate := func(want flocklock.Action, which []string) {
		t.Helper()
		report, err := dir.Migrate(flocklock.MigrateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, m := range report {
			if slices.Contains(others, m.Name) && m.Action != flocklock.Kept {
				t.Errorf("%+v", m)
			}
			if slices.Contains(which, m.Name) {
				if seen++; m.Action != want {
					t.Errorf("%+v, want %s", m, want)
				}
			}
		}
		if seen != len(which) {
			t.Errorf("%d of %q in %+v", seen, which, report)
		}
	}
	l := mustAcquire(t, dir)
	migrate(flocklock.SkippedHeld, young)
	l.Release()
	migrate(flocklock.Kept, young) // an old gateway may be using them
	if got := files(t, dir); slices.Contains(got, own[0]) || slices.Contains(got, own[1]) {
		t.Errorf("left behind: %v", got)
	}
	for _, n := range young {
		if err := os.Chtimes(filepath.Join(string(dir), n), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(string(dir), own[0]), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	dry, err := dir.Migrate(flocklock.MigrateOptions{DryRun: true})
	if err != nil || !slices.Equal(files(t, dir), before) {
		t.Errorf("a dry run left %q, %v", files(t, dir), err)
	}
	migrate(flocklock.Removed, append(young, own[0]))
	if got := files(t, dir); len(got) != len(others)+1 {
		t.Errorf("left behind: %v", got)
	}
	for _, m := range dry {
		if removed := !slices.Contains(files(t, dir), m.Name); removed != (m.Action == flocklock.Removed) {
			t.Errorf("a dry run said %+v", m)
		}
	}

	// What no gateway made is not removed.
	odd := filepath.Join(string(dir), young[0])
	if err := errors.Join(os.Mkdir(odd, 0o700), os.Chtimes(odd, old, old)); err != nil {
		t.Fatal(err)
	}
	migrate(flocklock.Kept, young[:1])
}

// The directory as old gateways left it, in one go.
func TestMigrate(t *testing.T) {
	dir := newDir(t)
	owner, dead := gateway(t), stranger(t)
	dead.kill()
	holder := spawn(t, "hold", []string{string(dir), "irc", secret})
	holder.expect("held")
	want := map[string]flocklock.Action{}
	write := func(scope string, action flocklock.Action, pid int, changes legacy) {
		n := scope + "-0123456789abcdef.lock"
		putLegacy(t, dir, pid, changes)
		if err := os.Rename(recordPath(dir), filepath.Join(string(dir), n)); err != nil {
			t.Fatal(err)
		}
		want[n] = action
	}
	write("dead", flocklock.Removed, dead.pid(), nil)
	write("recycled", flocklock.Removed, owner.pid(), legacy{"updated_at": isoNow(earlier)})
	write("living", flocklock.Converted, owner.pid(), nil)
	write("whole", flocklock.Kept, owner.pid(), legacy{"start_time": startOf(t, owner.pid())})
	want["irc-0e0cf2ce43b0a59a.lock"] = flocklock.SkippedHeld
	for _, dryRun := range []bool{true, false} {
		report, err := dir.Migrate(flocklock.MigrateOptions{DryRun: dryRun})
		if err != nil || len(report) != len(want) {
			t.Fatalf("%+v, %v", report, err)
		}
		for i, m := range report {
			if m.Action != want[m.Name] || m.Reason == "" {
				t.Errorf("dry run %v: %+v, want %s", dryRun, m, want[m.Name])
			}
			if i > 0 && report[i-1].Name >= m.Name {
				t.Error("not in the order of names")
			}
		}
	}
	readFile(t, filepath.Join(string(dir), "whole-0123456789abcdef.lock"))
	if _, err := os.Stat(filepath.Join(string(dir), "dead-0123456789abcdef.lock")); err == nil {
		t.Error("the dead owner's record is still there")
	}
	holder.finish()
}

func TestLooksLikeGateway(t *testing.T) {
	for line, want := range map[string]bool{
		"hermes gateway":                              true,
		"hermes gateway run":                          true,
		"hermes gateway restart":                      true,
		"/usr/bin/hermes -p work gateway run":         true,
		"hermes --profile work gateway":               true,
		"hermes --profile=work gateway run --replace": true,
		"hermes gateway run -p work":                  true,
		`"C:\Program Files\hermes.exe" gateway run`:   true,
		`C:\x\Hermes-Gateway.EXE`:                     true,
		"hermes-gateway --anything":                   true,
		"python3 -m hermes_cli.main gateway run":      true,
		"python /opt/hermes_cli/main.py gateway":      true,
		"python gateway/run.py":                       true,
		"python /opt/x/gateway/run.py":                true,
		"hermes gateway status":                       false,
		"hermes gateway stop":                         false,
		"hermes -p gateway chat":                      false,
		"hermes chat":                                 false,
		"python -m tui_gateway run":                   false,
		"nginx gateway run":                           false,
		"vim gateway/run.py.bak":                      false,
		"hermes":                                      false,
		"":                                            false,
	} {
		if got := flocklock.LooksLikeGateway(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if !flocklock.LooksLikeGateway([]string{"hermes gateway run"}) {
		t.Error("one word")
	}
}

// 07, 36: a record with this process's own number and start is one that it
// wrote before it became another program, and blames nobody.
func TestRow07OwnPID(t *testing.T) {
	dir := newDir(t)
	putLegacy(t, dir, os.Getpid(), legacy{"start_time": startOf(t, os.Getpid())})
	leaves(t, dir, "this process wrote it")
}

// 19: "unresolved" names no PID namespace, so it keeps nobody out.
func TestRow19UnresolvedNamespace(t *testing.T) {
	dir := newDir(t)
	dead := stranger(t)
	dead.kill()
	putLegacy(t, dir, dead.pid(), legacy{"pidns": "unresolved"})
	leaves(t, dir, "no process has PID")
}

// The flags of an old gateway may hold a secret. They count when it is judged,
// and are shown nowhere.
func TestLegacyFlagsAreNotShown(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), legacy{"argv": []string{"hermes", "gateway", "run", "--token", secret}})
	status, err := dir.Inspect(scope, secret)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(status.Record)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{mustRefuse(t, dir, flocklock.StandingLegacy).Error(), status.String(), string(text)} {
		if strings.Contains(shown, secret) {
			t.Errorf("shown: %s", shown)
		}
	}
}
