package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.Local)

func heldBy(scope, hash string, standing flocklock.Standing, r flocklock.Record) flocklock.Status {
	return flocklock.Status{
		Scope: scope, IdentityHash: hash, State: flocklock.Held, Record: &r,
		Holder: flocklock.Holder{Standing: standing, Record: &r, Reason: "this is why"},
	}
}

func TestLockTable(t *testing.T) {
	bot := flocklock.Record{PID: 4711, Argv: []string{"/opt/hermes", "gateway"}, Profile: "work", AcquiredAt: now.Add(-time.Hour)}
	old := flocklock.Record{PID: 12, Argv: []string{`C:\py\hermes.exe`}, HermesHome: `C:\h\profiles\home`, UpdatedAt: now.AddDate(-1, 0, 0)}
	evil := flocklock.Record{Argv: []string{"a\x1b[31m\n\u202e\"b\""}, Profile: "x\ty", AcquiredAt: now.AddDate(0, 0, -1)}
	left := flocklock.Status{Scope: "slack", State: flocklock.Free, Leftover: true, Left: "no process has PID 7"}
	for _, test := range []struct {
		name  string
		room  int
		locks []flocklock.Status
		want  []string
	}{
		{"free", 80, []flocklock.Status{{Scope: "slack", IdentityHash: "00", State: flocklock.Free}}, []string{
			"SCOPE  STATE",
			"slack  free",
		}},
		{"columns are left out", 80, []flocklock.Status{heldBy("telegram", "00", flocklock.StandingVerified, bot)}, []string{
			"SCOPE     STATE  HOLDER                      SINCE     STANDING",
			"telegram  held   4711 (work) hermes gateway  14:09:26  verified",
		}},
		{"hashes tell apart", 80, []flocklock.Status{
			heldBy("a", "0123456789abcdef", flocklock.StandingStopped, bot), heldBy("a", "f123456789abcdef", flocklock.StandingSelf, bot), {Scope: "b"},
		}, []string{
			"SCOPE  HASH    STATE  HOLDER                      SINCE     STANDING",
			"a      012345  held   4711 (work) hermes gateway  14:09:26  stopped",
			"a      f12345  held   4711 (work) hermes gateway  14:09:26  self",
			"b",
		}},
		{"notes", 80, []flocklock.Status{
			left, heldBy("a", "", flocklock.StandingUnknown, bot), heldBy("b", "", flocklock.StandingLegacy, old),
			heldBy("c", "", flocklock.StandingElsewhere, evil),
		}, []string{
			`SCOPE  STATE  HOLDER                         SINCE         STANDING   NOTE`,
			`slack  free                                                           left over…`,
			`a      held   not known                                    unknown    this is w…`,
			`b      held   12 (home) hermes.exe           2025-03-14    legacy     this is w…`,
			`c      held   PID unknown (x\ty) a\x1b[31m…  Mar 13 15:09  elsewhere  this is w…`,
		}},
	} {
		got := lockTable(test.locks, now).lines(test.room, plain)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// TestTableFits: whatever stands in it, no line is wider than the terminal, and
// what there is room for is shown in full.
func TestTableFits(t *testing.T) {
	long := flocklock.Record{
		PID: 1<<31 - 1, Argv: []string{"/" + strings.Repeat("網", 50), strings.Repeat("e\u0301", 50)},
		Profile: strings.Repeat("p", 64), AcquiredAt: now.AddDate(0, 0, -1),
	}
	scope := strings.Repeat("s", 128)
	locks := []flocklock.Status{
		heldBy(scope, strings.Repeat("0", 16), flocklock.StandingElsewhere, long),
		heldBy(scope, strings.Repeat("1", 16), flocklock.StandingLegacy, long),
	}
	for room := 14; room < 600; room++ {
		for _, line := range lockTable(locks, now).lines(room, plain) {
			if width(line) > room {
				t.Fatalf("%d columns of %d: %s", width(line), room, line)
			}
		}
	}
	all := strings.Join(lockTable(locks, now).lines(599, plain), "\n")
	if strings.Contains(all, "…") || !strings.Contains(all, scope) {
		t.Errorf("cut without need: %s", all)
	}
	eighty := lockTable(locks, now).lines(80, plain)[1]
	for _, want := range []string{"ss…", "000000", "held", "2147483647", "Mar 13 15:09", "elsewhere", "this is w"} {
		if !strings.Contains(eighty, want) {
			t.Errorf("no %q in %s", want, eighty)
		}
	}
}

func TestColours(t *testing.T) {
	for lock, want := range map[*flocklock.Status]string{
		{Scope: "a", State: flocklock.Free}: "a      \x1b[2mfree\x1b[0m",
		{Scope: "a", State: flocklock.Held, Holder: flocklock.Holder{Standing: flocklock.StandingUnknown}}: "a      \x1b[32mheld\x1b[0m   not known  \x1b[33munknown\x1b[0m",
	} {
		if got := lockTable([]flocklock.Status{*lock}, now).lines(80, inColour)[1]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRedraw(t *testing.T) {
	var b strings.Builder
	var d drawing
	for _, step := range []struct {
		lines []string
		size  size
		want  string
	}{
		{[]string{"a", "b"}, size{20, 5}, "a\x1b[K\nb\x1b[K\n\x1b[J"},
		{[]string{"a", "b"}, size{20, 5}, ""},
		{[]string{"c"}, size{20, 5}, "\r\x1b[2Ac\x1b[K\n\x1b[J"},
		{[]string{"c"}, size{30, 5}, "\x1b[H\x1b[2Jc\x1b[K\n\x1b[J"},
		{[]string{"1", "2", "3", "4", "5"}, size{30, 5}, "\r\x1b[1A1\x1b[K\n2\x1b[K\n3\x1b[K\nand 2 more, for which the ter…\x1b[K\n\x1b[J"},
		{[]string{"1", "2", "3", "4"}, size{30, 5}, "\r\x1b[4A1\x1b[K\n2\x1b[K\n3\x1b[K\n4\x1b[K\n\x1b[J"},
	} {
		b.Reset()
		d.redraw(&b, step.lines, step.size)
		if b.String() != step.want {
			t.Errorf("%v at %v: got %q, want %q", step.lines, step.size, b.String(), step.want)
		}
	}
}
