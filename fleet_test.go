//go:build linux

package flocklock_test

// Old and new gateways in any mix, in thousands of rounds: an owner of ours and
// another owner at one time is a fault of ours, unless the old protocol's own
// races explain it.
//
// The old gateways are testdata/old_gateway.py, a model that shares nothing with
// the one in Go. In a round some of them and of ours start at one moment on a
// file in some state, and then again while owners hold on, release, take the
// lock once more, or are killed. Everybody notes on the one monotonic clock when
// it owned the lock, and the parent when it killed whom.
//
// What explains two owners. In the old protocol the lock is the file, so one of
// the two must have lost its record while it owned the lock. What an old
// gateway removes or writes over is kept (a grave), with what it had judged. The
// loss is the old protocol's own where an old gateway's grave has that record
// and
//
//   - blind: it had judged another file. Two starters judge one stale file, and
//     the second removes what the first has put in its place. Or an owner that
//     had lost its record before releases another's.
//   - unfinished: it judged the same file, but found no record in it: between
//     the create and the write of an old gateway, or in a file that is a bare
//     PID. Ours are put in place whole, so that none of ours can be lost so.
//   - command: LATEST judged the same file, and the owner, which is an old
//     gateway, runs no gateway's command line. Ours do.
//
// Two more ways are no removal of an owner's record by an old gateway:
//
//   - aside: a starter of ours had exchanged its record, which won it nothing, for
//     one that it had not judged, and an old gateway removed the former blindly
//     and created its own before the two were exchanged back, or where a kill kept
//     them from that. The old gateway would have removed what had stood there.
//   - slow: an old owner took longer between its create and its write than a new
//     starter waits for the writer of an empty file.
//
// Two owners of ours are never explained.

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

const (
	fleetEnv   = "FLOCKLOCK_FLEET" // how long, as time.ParseDuration reads it
	fleetLanes = 4                 // so many rounds run at once
	fleetSize  = 5                 // starters in a round
	fleetWaves = 3                 // starts in a round
)

func init() { workers["fleet"] = fleetStarter }

// fleetStarter is the worker of ours. It speaks as testdata/old_gateway.py does,
// but "won" comes with the record's id, "again" is a check and is answered by
// "kept", and "end" tells what a last check said and when it began.
func fleetStarter([]string) {
	fmt.Println("ready")
	var l *flocklock.Lock
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		words := strings.Split(scan.Text(), "\t")
		sleepUntil(number(words[1]))
		switch begun := monotonic(); words[0] {
		case "acquire":
			var err error
			if l, err = flocklock.Dir(filepath.Dir(words[2])).TryAcquire(scope, secret); err != nil {
				fmt.Println("lost", monotonic(), describe(err))
				continue
			}
			fmt.Println("won", monotonic(), l.Record().ID)
		case "again":
			said := describe(l.Check())
			fmt.Println("kept", monotonic(), begun, said)
		case "release":
			said := describe(l.Check())
			fmt.Println("end", monotonic(), begun, said)
			if err := l.Release(); err != nil {
				fmt.Println("lost", monotonic(), describe(err))
			}
			fmt.Println("released", monotonic())
		}
	}
}

// sleepUntil waits for a moment of the monotonic clock; the last of it awake.
func sleepUntil(at int64) {
	const awake = 300_000
	for rest := at - monotonic(); rest > 0; rest = at - monotonic() {
		if rest > 2*awake {
			time.Sleep(time.Duration(rest - awake))
		}
	}
}

// A starter is a process that wants the lock, of ours or an old gateway.
type starter struct {
	*proc
	kind     string
	ours     bool
	plain    bool // its command line is no gateway's
	now      *tenure
	killedAt int64
	created  int64 // when an old gateway last created a record, which it may write anew
}

// A tenure is one time in which somebody owned the lock.
type tenure struct {
	who              string
	pid              int
	ours, plain      bool
	mark             string // of the record: an id of ours, or an inode
	begin, end       int64  // end: 0 as long as it lasts
	created, written int64  // of the record, where that takes two steps
	since            int64  // when the record was created that this one was written over
	checks           []check
}

type check struct {
	begin, end int64
	said       string
}

func (o *tenure) String() string {
	return fmt.Sprintf("%s (record %s) from %d to %d", o.who, o.mark, o.begin, o.end)
}

// A grave is what an old gateway removed or wrote over, and what it had judged.
type grave struct {
	what          string
	at            int64
	judged, found fileState
	why           string
	text          string
}

// A fileState tells one state of one file. The inode alone does not: what a
// starter of ours removes is not kept, so that its number is given out again.
type fileState struct{ inode, size, mtime int64 }

// unfinished reports whether what was removed had been judged before there was a
// record in it.
func (g *grave) unfinished() bool { return g.why == "broken" && g.judged.inode == g.found.inode }

// blind reports whether what was removed is not what had been judged.
func (g *grave) blind() bool { return g.judged != g.found && !g.unfinished() }

// holds reports whether the record of an owner is in a grave.
func (g *grave) holds(o *tenure) bool {
	if o.ours {
		return strings.Contains(g.text, `"id":"`+o.mark+`"`)
	}
	return fmt.Sprint(g.found.inode) == o.mark && strings.Contains(g.text, strconv.Itoa(o.pid))
}

// unowned reports whether it is a record of ours that won its starter nothing.
func (g *grave) unowned(all []*tenure) bool {
	return strings.Contains(g.text, `"id":`) && !slices.ContainsFunc(all, g.holds)
}

// readGraves reads the graves of a round.
func readGraves(t *testing.T, dir string) []*grave {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var graves []*grave
	for _, entry := range entries {
		words := strings.Split(entry.Name(), ",")
		path := filepath.Join(dir, entry.Name())
		g := &grave{what: words[0], at: number(words[2]), judged: readState(words[3:6]), why: words[6], text: readFile(t, path)}
		if len(words) == 10 {
			g.found = readState(words[7:])
		} else {
			g.found = stateOf(t, path)
		}
		graves = append(graves, g)
	}
	return graves
}

func readState(words []string) fileState {
	return fileState{number(words[0]), number(words[1]), number(words[2])}
}

// number reads a number that a starter wrote.
func number(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func stateOf(t *testing.T, path string) fileState {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return fileState{int64(stat.Ino), stat.Size, stat.Mtim.Nano()}
}

// explain says by which race of the old protocol two owned the lock at one time,
// and which of them had lost its record; "" where none did it.
func explain(a, b *tenure, all []*tenure, graves []*grave) (why string, loser *tenure) {
	if a.ours && b.ours {
		return "", nil
	}
	both := max(a.begin, b.begin)
	for _, o := range []*tenure{a, b} {
		for _, g := range graves {
			if !g.holds(o) || g.at >= both {
				continue
			}
			switch {
			case g.blind():
				return "blind", o
			case g.unfinished() && !o.ours:
				return "unfinished", o
			case g.why == "no-gateway" && o.plain:
				return "command", o
			}
		}
	}
	for _, pair := range [][2]*tenure{{a, b}, {b, a}} {
		o, other := pair[0], pair[1]
		// Who began before the patience was over took nobody's record for slow.
		if patience := o.created + int64(flocklock.WriterPatience); !o.ours && o.written > patience && other.begin > patience {
			return "slow", o
		}
	}
	for _, o := range []*tenure{a, b} {
		for _, g := range graves {
			if !o.ours && o.since < g.at && g.at < both && g.blind() && g.unowned(all) {
				return "aside", o
			}
		}
	}
	return "", nil
}

// A tally is what all rounds came to.
type tally struct {
	mu            sync.Mutex
	rounds, kills int
	ours, old     int // owners
	noticed       int // checks that told of the other owner
	doubled       int // rounds
	attributed    int // rounds
	pairs         map[string]int
}

// A lane runs one round after the other.
type lane struct {
	t        *testing.T
	python   string
	script   string // testdata/old_gateway.py
	hermes   string // the same, named so that it looks like a gateway
	dead     int    // a PID that no process has
	living   *proc  // looks like a gateway and does nothing
	tally    *tally
	starters []*starter

	tenures []*tenure // of this round
	log     []string
	kills   int
}

// enlist starts a process of some kind.
func (l *lane) enlist() *starter {
	if rand.N(5) < 2 {
		s := &starter{kind: "ours", ours: true}
		s.proc = spawn(l.t, "fleet", nil, as("hermes-gateway"))
		s.expect("ready")
		return s
	}
	version := []string{"V1", "OLD", "LATEST"}[rand.N(3)]
	s := &starter{kind: version}
	args := []string{l.python, "-I", "-S", l.hermes, "gateway", "run", version}
	if rand.N(8) == 0 {
		s.kind, s.plain = version+", plain", true
		args = []string{l.python, "-I", "-S", l.script, version}
	}
	s.proc = spawn(l.t, "", nil, func(cmd *exec.Cmd) { cmd.Path, cmd.Args = l.python, args })
	s.expect("ready")
	return s
}

// keep holds on to what stands where the record does, until done is called: a
// starter of ours removes it, and another file must not get its number, which is
// how a grave tells what had been judged.
func (l *lane) keep(dir flocklock.Dir) (done func() error) {
	file, err := os.Open(recordPath(dir))
	if err != nil { // nothing
		return func() error { return nil }
	}
	return file.Close
}

// prepare puts something where the record stands, and says what. A living
// gateway's PID is an owner.
func (l *lane) prepare(dir flocklock.Dir) (state string) {
	switch rand.N(8) {
	case 0, 1:
		return "fresh"
	case 2:
		putLegacy(l.t, dir, l.dead, nil)
		return "stale"
	case 3:
		putLegacy(l.t, dir, l.living.pid(), legacy{"start_time": 1})
		return "stale, its PID another's"
	case 4:
		put(l.t, dir, "")
		state = "empty"
	case 5:
		put(l.t, dir, fmt.Sprintf(`{"pid": %d, "kind": "her`, l.dead))
		state = "cut short"
	case 6:
		put(l.t, dir, strconv.Itoa(l.dead))
		return "PID of nobody"
	case 7:
		put(l.t, dir, strconv.Itoa(l.living.pid()))
		l.tenures = append(l.tenures, &tenure{who: "who wrote only its PID", pid: l.living.pid(),
			begin: monotonic(), end: math.MaxInt64, mark: fmt.Sprint(stateOf(l.t, recordPath(dir)).inode)})
		return "PID of a gateway"
	}
	if rand.N(2) == 0 { // nobody is about to finish it
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(recordPath(dir), old, old); err != nil {
			l.t.Fatal(err)
		}
	}
	return state
}

// round is one round on a directory of its own.
func (l *lane) round(root string) {
	dir, graves := flocklock.Dir(filepath.Join(root, "locks")), filepath.Join(root, "graves")
	for _, path := range []string{string(dir), graves} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	l.tenures, l.log, l.kills = nil, nil, 0
	state := l.prepare(dir)
	defer l.keep(dir)()
	held := len(l.tenures) > 0
	for range fleetWaves {
		l.wave(dir, graves)
	}
	l.end()
	l.judge(state, readGraves(l.t, graves))
	if rand.N(8) == 0 && !held {
		lock, err := dir.TryAcquire(scope, secret)
		if err != nil {
			l.t.Errorf("%s: nobody owns it any more, but: %v\n%s", state, err, strings.Join(l.log, "\n"))
			return
		}
		lock.Release()
	}
}

// wave tells who owns nothing to start, and some owners to go, all at once; and
// kills some of them.
func (l *lane) wave(dir flocklock.Dir, graves string) {
	at := monotonic() + 3_000_000
	var busy, doomed []*starter
	for _, s := range l.starters {
		moment := at
		if rand.N(2) == 0 {
			moment += rand.N(int64(2_000_000))
		}
		command := fmt.Sprintf("acquire\t%d\t%s\t%s", moment, recordPath(dir), graves)
		die := rand.N(16) == 0
		if s.now != nil {
			switch rand.N(6) {
			case 0, 1:
				command = ""
			case 2:
				command = fmt.Sprintf("again\t%d", moment)
			case 3, 4:
				command = fmt.Sprintf("release\t%d", moment)
			case 5:
				command, die = "", true
			}
		}
		if die {
			s.killedAt = at + rand.N(int64(3_000_000))
			doomed = append(doomed, s)
		}
		if command != "" {
			s.tell(command)
			if !die {
				busy = append(busy, s)
			}
		}
	}
	l.kill(doomed)
	for _, s := range busy {
		for !l.note(s, s.line()) {
		}
	}
}

// kill kills at the moments that are set, and puts others in their places.
func (l *lane) kill(doomed []*starter) {
	slices.SortFunc(doomed, func(a, b *starter) int { return cmp.Compare(a.killedAt, b.killedAt) })
	for _, s := range doomed {
		sleepUntil(s.killedAt)
		s.killedAt = monotonic()
		s.cmd.Process.Kill()
		l.kills++
	}
	for _, s := range doomed {
		for line := range strings.Lines(s.finish()) {
			l.note(s, strings.TrimSuffix(line, "\n"))
		}
		l.log = append(l.log, fmt.Sprintf("%d %s: killed at %d", s.pid(), s.kind, s.killedAt))
		if o := s.now; o != nil { // at that moment it had not ended by itself
			o.end = max(o.begin, s.killedAt)
		}
		l.starters[slices.Index(l.starters, s)] = l.enlist()
	}
}

// end lets all owners go.
func (l *lane) end() {
	for _, s := range l.starters {
		if s.now == nil {
			continue
		}
		s.tell(fmt.Sprintf("release\t%d", monotonic()))
		for !l.note(s, s.line()) {
		}
	}
}

// note takes down what a starter said, and reports whether that was all.
func (l *lane) note(s *starter, line string) bool {
	l.log = append(l.log, fmt.Sprintf("%d %s: %s", s.pid(), s.kind, line))
	if line == "" {
		l.t.Fatalf("a starter ended:\n%s", strings.Join(l.log, "\n"))
	}
	words := strings.SplitN(line, " ", 5)
	at := number(words[1])
	switch words[0] {
	case "won":
		s.now = &tenure{who: fmt.Sprintf("%d %s", s.pid(), s.kind), pid: s.pid(), ours: s.ours, plain: s.plain, mark: words[2], begin: at}
		if len(words) == 5 {
			s.now.created, s.now.written = number(words[3]), number(words[4])
		}
		s.now.since = s.created
		l.tenures = append(l.tenures, s.now)
	case "lost":
		if s.ours && words[2] != "refused" {
			l.t.Errorf("%s", line)
		}
	case "end", "kept":
		if s.ours {
			words = strings.SplitN(line, " ", 4)
			s.now.checks = append(s.now.checks, check{number(words[2]), at, words[3]})
		}
		if words[0] == "kept" {
			return true
		}
		s.now.end = at
		s.now = nil
		return false
	case "step":
		if words[2] == "created" {
			s.created = at
		}
		return false
	}
	return true
}

// judge looks for two that owned the lock at one time.
func (l *lane) judge(state string, graves []*grave) {
	l.tally.mu.Lock()
	defer l.tally.mu.Unlock()
	l.tally.rounds++
	l.tally.kills += l.kills
	doubled, explained := false, true
	for i, a := range l.tenures {
		if a.ours {
			l.tally.ours++
		} else {
			l.tally.old++
		}
		for _, b := range l.tenures[:i] {
			if a.begin >= b.end || b.begin >= a.end {
				continue
			}
			doubled = true
			why, loser := explain(a, b, l.tenures, graves)
			if why == "" {
				explained = false
				l.t.Errorf("%s: nothing explains that %v and %v both owned it:\n%s", state, a, b, strings.Join(l.log, "\n"))
			}
			l.tally.pairs[pairOf(a, b, loser)+", "+why]++
			if why == "blind" && loser == a {
				l.mustNotice(a, b, graves)
			}
			if why == "blind" && loser == b {
				l.mustNotice(b, a, graves)
			}
		}
	}
	if doubled {
		l.tally.doubled++
		if explained {
			l.tally.attributed++
		}
	}
}

// pairOf names two owners, first the one that had lost its record.
func pairOf(a, b, loser *tenure) string {
	if loser == b {
		a, b = b, a
	}
	side := map[bool]string{true: "ours", false: "old"}
	return side[a.ours] + " with " + side[b.ours]
}

// mustNotice sees that a check of an owner of ours told of an old one whose
// record stood there all the while.
func (l *lane) mustNotice(a, b *tenure, graves []*grave) {
	lost := slices.ContainsFunc(graves, func(g *grave) bool { return g.holds(b) && g.what != "released" })
	if !a.ours || b.ours || lost {
		return
	}
	for _, c := range a.checks {
		if c.begin < b.begin || c.end > b.end {
			continue
		}
		if !strings.HasPrefix(c.said, "refused legacy") {
			l.t.Errorf("a check from %d to %d of %v said %q, though %v:\n%s", c.begin, c.end, a, c.said, b, strings.Join(l.log, "\n"))
			continue
		}
		l.tally.noticed++
	}
}

func TestFleet(t *testing.T) {
	python := python3(t)
	duration := 3 * time.Second
	if text := os.Getenv(fleetEnv); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", fleetEnv, err)
		}
		duration = d
	}
	script, err := filepath.Abs("testdata/old_gateway.py")
	if err != nil {
		t.Fatal(err)
	}
	hermes := filepath.Join(t.TempDir(), "hermes")
	if err := os.Symlink(script, hermes); err != nil {
		t.Fatal(err)
	}
	dead := stranger(t)
	dead.kill()
	sum := &tally{pairs: make(map[string]int)}
	begun := time.Now()
	var lanes sync.WaitGroup
	for i := range fleetLanes {
		l := &lane{t: t, python: python, script: script, hermes: hermes, dead: dead.pid(), living: gateway(t), tally: sum}
		for range fleetSize {
			l.starters = append(l.starters, l.enlist())
		}
		root := filepath.Join(t.TempDir(), strconv.Itoa(i))
		lanes.Go(func() {
			for n := 0; time.Since(begun) < duration && !t.Failed(); n++ {
				place := filepath.Join(root, strconv.Itoa(n))
				l.round(place)
				if err := os.RemoveAll(place); err != nil {
					t.Error(err)
				}
			}
		})
	}
	lanes.Wait()
	t.Logf("%v: %d rounds, %d owners of ours, %d old ones, %d kills; %d rounds with two owners, %d of them explained: %v; %d checks told of it; of two, the first had lost its record",
		time.Since(begun).Round(time.Second), sum.rounds, sum.ours, sum.old, sum.kills, sum.doubled, sum.attributed, sum.pairs, sum.noticed)
	if sum.ours == 0 || sum.old == 0 || sum.kills == 0 {
		t.Error("that proves nothing")
	}
}

// What explains two owners, and what does not.
func TestFleetExplains(t *testing.T) {
	ours := &tenure{ours: true, mark: "OURS", begin: 100}
	old := &tenure{pid: 7, mark: "42", begin: 200, created: 190, written: 195, since: 190}
	plain := &tenure{pid: 7, mark: "42", begin: 200, plain: true}
	slow := &tenure{pid: 7, mark: "42", begin: 200, created: 190, written: 191 + int64(flocklock.WriterPatience)}
	stale, theirs, empty := fileState{41, 235, 5}, fileState{42, 290, 9}, fileState{42, 0, 9}
	next := &tenure{pid: 10, mark: "44", begin: 210, created: 205, written: 207, since: 205}
	anew := &tenure{pid: 10, mark: "45", begin: 310, created: 305, written: 307, since: 205}
	late := &tenure{ours: true, mark: "LATE", begin: 195 + int64(flocklock.WriterPatience)}
	const oursText, unownedText, oldText = `{"pid":8,"id":"OURS"}`, `{"pid":11,"id":"NOBODY"}`, `{"pid": 7}`
	for what, c := range map[string]struct {
		a, b  *tenure
		grave grave
		want  string
	}{
		"nothing was removed":          {ours, old, grave{}, ""},
		"ours, judged another":         {ours, old, grave{at: 150, judged: stale, found: theirs, why: "dead", text: oursText}, "blind"},
		"ours, judged itself":          {ours, old, grave{at: 150, judged: theirs, found: theirs, why: "dead", text: oursText}, ""},
		"ours, taken for no gateway's": {ours, old, grave{at: 150, judged: theirs, found: theirs, why: "no-gateway", text: oursText}, ""},
		"ours, taken for broken":       {ours, old, grave{at: 150, judged: theirs, found: theirs, why: "broken", text: oursText}, ""},
		"ours, too late":               {ours, old, grave{at: 250, judged: stale, found: theirs, why: "dead", text: oursText}, ""},
		"a third one's":                {ours, old, grave{at: 150, judged: stale, found: fileState{43, 290, 9}, why: "dead", text: `{"pid": 9}`}, ""},
		"the number of a third one's":  {ours, old, grave{at: 150, judged: stale, found: theirs, why: "dead", text: `{"pid": 9}`}, ""},
		"old, judged another":          {ours, old, grave{at: 150, judged: stale, found: theirs, why: "dead", text: oldText}, "blind"},
		"old, judged another state":    {ours, old, grave{at: 150, judged: fileState{42, 235, 5}, found: theirs, why: "dead", text: oldText}, "blind"},
		"old, judged itself":           {ours, old, grave{at: 150, judged: theirs, found: theirs, why: "dead", text: oldText}, ""},
		"old, judged while empty":      {ours, old, grave{at: 150, judged: empty, found: theirs, why: "broken", text: oldText}, "unfinished"},
		"old, no gateway's":            {ours, plain, grave{at: 150, judged: theirs, found: theirs, why: "no-gateway", text: oldText}, "command"},
		"old, but a gateway's":         {ours, old, grave{at: 150, judged: theirs, found: theirs, why: "no-gateway", text: oldText}, ""},
		"old, slow":                    {late, slow, grave{}, "slow"},
		"old, slow, ours too early":    {ours, slow, grave{}, ""},
		"old, set aside":               {old, next, grave{at: 195, judged: stale, found: theirs, why: "dead", text: unownedText}, "aside"},
		"old, an owner's aside":        {old, next, grave{at: 195, judged: stale, found: theirs, why: "dead", text: oursText}, ""},
		"old, aside before":            {old, next, grave{at: 185, judged: stale, found: theirs, why: "dead", text: unownedText}, ""},
		"old, aside but judged":        {old, next, grave{at: 195, judged: theirs, found: theirs, why: "dead", text: unownedText}, ""},
		"old, set aside, then anew":    {old, anew, grave{at: 250, judged: stale, found: theirs, why: "dead", text: unownedText}, "aside"},
		"ours, another's aside":        {ours, next, grave{at: 195, judged: stale, found: theirs, why: "dead", text: unownedText}, ""},
		"two of ours":                  {ours, ours, grave{at: 50, judged: stale, found: theirs, why: "dead", text: oursText}, ""},
	} {
		for _, pair := range [][2]*tenure{{c.a, c.b}, {c.b, c.a}} {
			if got, _ := explain(pair[0], pair[1], []*tenure{ours, old, next}, []*grave{&c.grave}); got != c.want {
				t.Errorf("%s: %q, want %q", what, got, c.want)
			}
		}
	}
}
