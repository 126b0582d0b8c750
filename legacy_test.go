package flocklock_test

// Old gateways beside new ones: a model of the old protocol, written afresh
// from its description, and races against it. Numbers are rows of the
// catalogue of failures of the old lock.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/shirou/gopsutil/v3/process"
)

// An oldVersion is what differs between the old gateways.
type oldVersion struct {
	dropsBroken bool // removes what it cannot read
	asksCommand bool // takes an owner that runs no gateway for gone
}

var oldVersions = map[string]oldVersion{
	"V1":     {},
	"OLD":    {dropsBroken: true},
	"LATEST": {dropsBroken: true, asksCommand: true},
}

// read gives the record and the text it was read from; nil where there is none.
func (v oldVersion) read(path string) (record map[string]any, text []byte) {
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &record) != nil {
		return nil, text
	}
	return record, text
}

func (v oldVersion) stale(record map[string]any) bool {
	number, ok := record["pid"].(float64)
	if !ok {
		return true
	}
	pid := int(number)
	if alive, _ := process.PidExists(int32(pid)); !alive {
		return true
	}
	if !v.asksCommand {
		return false
	}
	line, err := (&process.Process{Pid: int32(pid)}).Cmdline()
	return err == nil && line != "" && !flocklock.LooksLikeGateway([]string{line})
}

// remove is how an old gateway removes what it judged. It reports whether that
// was blind: the file was another by then, or was still being written.
func (v oldVersion) remove(path string, judged []byte) (blind bool) {
	aside := fmt.Sprintf("%s.%d.stale", path, os.Getpid())
	if os.Rename(path, aside) != nil {
		return false
	}
	removed, err := os.ReadFile(aside)
	os.Remove(aside)
	return err != nil || len(removed) == 0 || string(removed) != string(judged)
}

// acquire is acquire_scoped_lock. between is called after the file was created
// and before it is written.
func (v oldVersion) acquire(path string, between func()) (acquired, blind bool) {
	existing, text := v.read(path)
	if _, err := os.Stat(path); existing == nil && err == nil && v.dropsBroken {
		blind = v.remove(path, text)
	}
	if existing != nil {
		if !v.stale(existing) {
			return false, false
		}
		blind = v.remove(path, text)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return false, blind
	}
	defer file.Close()
	between()
	json.NewEncoder(file).Encode(map[string]any{
		"pid": os.Getpid(), "kind": "hermes-gateway", "argv": []string{"hermes", "gateway", "run"}, "start_time": nil,
		"scope": scope, "identity_hash": name[len(scope)+1:], "metadata": map[string]any{}, "updated_at": isoNow(0),
	})
	return true, blind
}

func (v oldVersion) release(path string) {
	if record, _ := v.read(path); record != nil && record["pid"] == float64(os.Getpid()) {
		os.Remove(path)
	}
}

// releaseAll is release_all_scoped_locks without an owner.
func (v oldVersion) releaseAll(dir flocklock.Dir) {
	matches, _ := filepath.Glob(filepath.Join(string(dir), "*.lock"))
	for _, path := range matches {
		os.Remove(path)
	}
}

// oldGateway is the worker: the version, and "slow" for one that stops between
// create and write.
func oldGateway(args []string) {
	v := oldVersions[args[0]]
	if len(args) == 3 && args[1] == "slow" {
		stdin := bufio.NewReader(os.Stdin)
		v.acquire(recordPath(flocklock.Dir(args[2])), func() {
			fmt.Println("created")
			stdin.ReadString('\n')
		})
		fmt.Println("held")
		waitForParent()
		return
	}
	contender(func(dir flocklock.Dir) (string, func() string) {
		acquired, blind := v.acquire(recordPath(dir), func() {})
		outcome := "refused"
		if acquired {
			outcome = "held"
		}
		if blind {
			outcome += ", removed another's record blindly"
		}
		if !acquired {
			return outcome, nil
		}
		return outcome, func() string {
			v.release(recordPath(dir))
			return "dropped"
		}
	})
}

// newOld starts an old gateway that can be told to try.
func newOld(t *testing.T, version string) *proc {
	p := spawn(t, "old", []string{version}, as("hermes-gateway"))
	p.expect("ready")
	return p
}

func newContender(t *testing.T) *proc {
	p := spawn(t, "contend", nil, as("hermes-gateway"))
	p.expect("ready")
	return p
}

// race makes all try at once, and says who got the lock and what each had when
// it gave up. New ones must stand before old ones: they look at what the old
// ones have.
func race(procs []*proc, dir flocklock.Dir) (got, had []string) {
	at := time.Now().Add(2 * time.Millisecond).UnixNano()
	for _, p := range procs {
		p.tell(fmt.Sprintf("go %d %s", at, dir))
	}
	for _, p := range procs {
		got = append(got, p.line())
	}
	for _, p := range procs {
		p.tell("drop")
		had = append(had, p.line())
	}
	return got, had
}

// 13: several starters reclaim one stale file: one of them gets the lock.
func TestRow13StaleRace(t *testing.T) {
	dead := stranger(t)
	dead.kill()
	procs := []*proc{newContender(t), newContender(t), newContender(t), newContender(t)}
	for range 15 {
		dir := newDir(t)
		putLegacy(t, dir, dead.pid(), nil)
		held := 0
		got, had := race(procs, dir)
		for i := range got {
			if got[i] == "held" {
				held++
				if had[i] != "ok" {
					t.Errorf("check: %s", had[i])
				}
			} else if !strings.HasPrefix(got[i], "refused") {
				t.Error(got[i])
			}
		}
		if held != 1 {
			t.Errorf("%d holders: %q", held, got)
		}
	}
}

// 14: a starter meets the file between an old gateway's create and write.
func TestRow14BetweenCreateAndWrite(t *testing.T) {
	dir := newDir(t)
	old := spawn(t, "old", []string{"LATEST", "slow", string(dir)}, as("hermes-gateway"))
	old.expect("created")
	refused := make(chan error)
	go func() {
		l, err := dir.TryAcquire(scope, secret)
		if l != nil {
			l.Release()
		}
		refused <- err
	}()
	old.tell("write")
	old.expect("held")
	if err := promptly(t, func() error { return <-refused }); !strings.HasPrefix(describe(err), "refused legacy") {
		t.Errorf("%v", err)
	}
}

// 45: old and new gateways side by side, in races for one token.
//
// Among new ones there is one owner at most. An old and a new one both start
// only by the old protocol's own race, in which an old gateway removes a record
// that is not the one it judged. Where that record was a new owner's, its Check
// says so.
func TestRow45Races(t *testing.T) {
	const rounds = 4 // of each kind; TestFleet has thousands
	dead := stranger(t)
	dead.kill()
	states := map[string]func(flocklock.Dir){
		"fresh":   func(flocklock.Dir) {},
		"stale":   func(dir flocklock.Dir) { putLegacy(t, dir, dead.pid(), nil) },
		"corrupt": func(dir flocklock.Dir) { put(t, dir, `{"kind":`) },
		"PID":     func(dir flocklock.Dir) { put(t, dir, jsonPID(dead.pid())[6:]) },
	}
	for version := range oldVersions {
		procs := []*proc{newContender(t), newContender(t), newOld(t, version), newOld(t, version)}
		for state, prepare := range states {
			olds, news, both, noticed := 0, 0, 0, 0
			for range rounds {
				dir := newDir(t)
				prepare(dir)
				got, had := race(procs, dir)
				newOwners, oldOwners, blind := 0, 0, false
				for i := range procs {
					holds := strings.HasPrefix(got[i], "held")
					switch {
					case i >= 2:
						blind = blind || strings.HasSuffix(got[i], "blindly")
						if holds {
							oldOwners++
						}
					case holds:
						newOwners++
						if strings.HasPrefix(had[i], "refused legacy") {
							noticed++
						} else if had[i] != "ok" {
							t.Errorf("%s, %s: check said %s", version, state, had[i])
						}
					}
				}
				olds, news = olds+oldOwners, news+newOwners
				if newOwners > 1 {
					t.Errorf("%s, %s: %d new owners: %q", version, state, newOwners, got)
				}
				if newOwners > 0 && oldOwners > 0 {
					if both++; !blind {
						t.Errorf("%s, %s: a new and an old owner, and no old gateway is to blame: %q, then %q", version, state, got, had)
					}
				}
			}
			t.Logf("%s, %s: %d old owners, %d new; both in %d of %d rounds, by the old race; noticed in %d", version, state, olds, news, both, rounds, noticed)
		}
	}
}

// 45: an old gateway respects a new one's record, and a new one an old one's.
func TestRow45Respect(t *testing.T) {
	for version := range oldVersions {
		dir := newDir(t)
		holder := spawn(t, "hold", []string{string(dir), scope, secret}, as("hermes-gateway"))
		holder.expect("held")
		old := newOld(t, version)
		if got, _ := race([]*proc{old}, dir); got[0] != "refused" {
			t.Errorf("%s: %s a lock of ours", version, got[0])
		}
		if got := holder.finish(); got != "released <nil>" {
			t.Errorf("%s: %s", version, got)
		}
		old.tell("go 0 " + string(dir))
		old.expect("held")
		owns(t, dir, "runs a gateway's command line")
		old.tell("drop")
		old.expect("dropped")
		mustSettle(t, dir)
	}
}

// 45: an old gateway's release-all removes the record of a living owner. The
// kernel's lock is not touched, and Check puts the record back.
func TestRow45OldReleaseAll(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	oldVersions["LATEST"].releaseAll(dir)
	if _, err := os.Stat(recordPath(dir)); err == nil {
		t.Fatal("the model removed nothing")
	}
	other := spawn(t, "hold", []string{string(dir), scope, secret})
	other.expect("refused unknown")
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	other = spawn(t, "hold", []string{string(dir), scope, secret})
	other.expect("refused verified")
}

// 45: LATEST goes by the command line, so it takes the lock of a new gateway
// that is not named like one. That cannot be prevented; Check says it.
func TestRow45WrongName(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "contend", nil)
	p.expect("ready")
	p.tell("go 0 " + string(dir))
	p.expect("held")
	old := newOld(t, "LATEST")
	old.tell("go 0 " + string(dir))
	old.expect("held")
	p.tell("drop")
	p.expect("refused legacy")
	if _, err := os.Stat(recordPath(dir)); err != nil {
		t.Errorf("the old gateway's record is gone: %v", err)
	}
}
