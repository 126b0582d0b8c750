package flocklock_test

// A lock directory that somebody else can write to, who means harm. SECURITY.md
// says what he can do and what he cannot, and names these tests.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

func init() {
	workers["forge"] = forge
	workers["attack"] = attack
	workers["victim"] = victim
}

// The users of these tests.
const (
	attackerID = 65534
	ordinaryID = 65533 // who locks, where that is not root
	thirdID    = 65532 // who has something in the directory, too
)

// asUser makes a process an ordinary user's.
func asUser(t *testing.T, id int) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		nobody(t)(cmd)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
	}
}

// writableDir is a lock directory of root's that everybody may write to, in one
// that only root may.
func writableDir(t *testing.T, mode fs.FileMode) flocklock.Dir {
	t.Helper()
	base, err := os.MkdirTemp("", "flocklock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if os.Getenv(isolatedEnv) != "" { // in memory, where most swaps are made
		mount(t, "tmpfs", base, 0, "")
		t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
	}
	dir := filepath.Join(base, "locks")
	if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return flocklock.Dir(dir)
}

// forge holds the kernel's lock on the file args[0], and writes args[2] at
// args[1], where that is not "".
func forge(args []string) {
	file, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o666)
	if err == nil {
		err = errors.Join(file.Chmod(0o666), unix.Flock(int(file.Fd()), unix.LOCK_EX))
	}
	if err == nil && args[2] != "" {
		err = os.WriteFile(args[1], []byte(args[2]), 0o644)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	waitForParent()
	file.Close()
}

// 35: a record is no order to kill. One that another user wrote, or that belongs
// to another lock, names a process of ours that has nothing to do with it.
func TestRow35ForgedRecord(t *testing.T) {
	elsewhere := newDir(t)
	bystander := spawn(t, "deaf", []string{string(elsewhere), scope, secret})
	bystander.expect("held")
	ours := readFile(t, recordPath(elsewhere))
	start := startOf(t, bystander.pid())
	dir := writableDir(t, 0o777)
	attacker := spawn(t, "forge", []string{lockPath(dir), recordPath(dir), ours}, asUser(t, attackerID))
	attacker.expect("held")
	mustSpare(t, dir, bystander, "the file of its record is another user's")

	dir = writableDir(t, 0o777)
	gateways := fmt.Sprintf(`{"pid":%d,"start_time":%d,"updated_at":%q}`, bystander.pid(), start, isoNow(0))
	attacker = spawn(t, "forge", []string{lockPath(dir), recordPath(dir), gateways}, asUser(t, attackerID))
	attacker.expect("held")
	attacker.finish() // an old gateway has no kernel lock
	mustSpare(t, dir, bystander, "the file of its record is another user's")

	dir = writableDir(t, 0o777)
	other := spawn(t, "deaf", []string{string(dir), "irc", secret})
	other.expect("held")
	attacker = spawn(t, "forge", []string{lockPath(dir), "", ""}, asUser(t, attackerID))
	attacker.expect("held")
	if err := os.Rename(filepath.Join(string(dir), "irc-"+name[len(scope)+1:]+".lock"), recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	mustSpare(t, dir, other, "of another lock")
}

// 35: another user's word does not become our own on a detour: migrate converts no
// record that another wrote than the process's user, and what was left aside goes
// back as it is or not at all.
func TestRow35LaunderedRecord(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	bystander := spawn(t, "answer", nil, as("hermes-gateway"))
	bystander.expect("ready")
	dir := writableDir(t, 0o777|fs.ModeSticky)
	forged := func(path, text string) {
		t.Helper()
		p := spawn(t, "forge", []string{filepath.Join(string(dir), "unused"), path, text}, asUser(t, attackerID))
		p.expect("held")
		p.finish()
	}
	forged(recordPath(dir), fmt.Sprint(bystander.pid()))
	report, err := dir.Migrate(flocklock.MigrateOptions{})
	if err != nil || report[0].Action != flocklock.Kept || !strings.Contains(report[0].Reason, "another user wrote the record") {
		t.Errorf("migrate: %+v, %v", report, err)
	}
	mustSpare(t, dir, bystander, "not taken over")

	// An ordinary user may not rename another's file in a sticky directory, nor
	// link it.
	if err := errors.Join(os.Remove(recordPath(dir)), os.Remove(lockPath(dir))); err != nil {
		t.Fatal(err)
	}
	ours := spawn(t, "answer", nil, as("hermes-gateway"), asUser(t, ordinaryID))
	ours.expect("ready")
	text := fmt.Sprintf(`{"pid":%d,"start_time":%d,"updated_at":%q}`, ours.pid(), startOf(t, ours.pid()), isoNow(0))
	for _, aside := range []string{".tmp", ".old"} {
		forged(filepath.Join(string(dir), "."+name+aside), text)
	}
	for _, mode := range []string{"take-over", "take-over"} { // the first may put back what the second then believes
		p := spawn(t, mode, []string{string(dir), scope, secret}, asUser(t, ordinaryID))
		if got := p.line(); got == "held" {
			t.Errorf("taken over")
		}
		p.finish()
	}
	ours.tell("are you there?")
	ours.expect("here")
}

// 35: a process that held the lock once, and lives on, is not ended for who holds
// it now, though its record stands there again.
func TestRow35FormerHolder(t *testing.T) {
	dir := newDir(t)
	former := newContender(t)
	former.tell("go 0 " + string(dir))
	former.expect("held")
	record := readFile(t, recordPath(dir))
	former.tell("drop")
	former.expect("ok")
	other := spawn(t, "hold", []string{string(dir), scope, secret})
	other.expect("held")
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, record)
	l, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond})
	if l != nil || !errors.Is(err, flocklock.ErrNotTakenOver) || !strings.Contains(err.Error(), "is not seen to hold") {
		t.Errorf("%v, %v", l, err)
	}
	former.tell("drop")
	former.expect("nothing")
}

// 41: root makes its own lock file readable for all, and no private file that has
// a second name in the directory.
func TestRow41HardLinkAtTheLockFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root shares its lock file")
	}
	dir := newDir(t)
	private := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(private, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(private, lockPath(dir)); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, dir).Release()
	if info, err := os.Stat(private); err != nil || info.Mode() != 0o600 {
		t.Errorf("a private file has the mode %v now, %v", info.Mode(), err)
	}
}

// The attacker's stock, in which he makes what he puts into the lock directory.
const stock = "stock"

// linkOften gives files more names, for the attacker to use up: as if the system did
// not keep him from linking what he cannot write to, see fs.protected_hardlinks.
func linkOften(t *testing.T, paths []string, links string) {
	t.Helper()
	for i := range 1000 {
		if err := os.Link(paths[i%len(paths)], filepath.Join(links, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
}

// A hostileDir is a lock directory with an attacker in it, and what he is after.
type hostileDir struct {
	t       *testing.T
	dir     flocklock.Dir
	private string            // a directory of the locker's, outside
	kept    map[string]string // by path: what nobody may change
}

func newHostileDir(t *testing.T, mode fs.FileMode, locker int) *hostileDir {
	dir := writableDir(t, mode)
	h := &hostileDir{t, dir, filepath.Join(filepath.Dir(string(dir)), "private"), make(map[string]string)}
	h.folder(h.private, locker)
	h.file(filepath.Join(h.private, "root"), 0, 0o600)
	h.file(filepath.Join(h.private, "locker"), locker, 0o600)
	h.folder(filepath.Join(h.private, "folder"), locker)
	own := filepath.Join(string(dir), stock)
	h.folder(own, attackerID)
	sticky := mode&fs.ModeSticky != 0
	if !sticky { // else he could not take them away again
		linkOften(t, []string{filepath.Join(h.private, "root"), filepath.Join(h.private, "locker")}, own)
	}
	if sticky && locker != 0 { // else they are removed, as they should be
		h.leftovers()
	}
	for path := range h.kept {
		h.kept[path] = unchangeable(t, path)
	}
	delete(h.kept, h.private) // the bystander's lock comes there
	delete(h.kept, own)
	return h
}

func (h *hostileDir) folder(path string, owner int) {
	h.t.Helper()
	if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, owner, owner)); err != nil {
		h.t.Fatal(err)
	}
	h.kept[path] = ""
}

func (h *hostileDir) file(path string, owner int, mode fs.FileMode) {
	h.t.Helper()
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.WriteFile(path, []byte("canary"), mode), os.Chown(path, owner, owner), os.Chtimes(path, old, old)); err != nil {
		h.t.Fatal(err)
	}
	h.kept[path] = ""
}

// leftovers are a third user's, and of every kind that somebody would remove who
// may.
func (h *hostileDir) leftovers() {
	const irc = "irc-0000000000000000"
	for _, file := range []string{irc + ".lock", irc + ".lock.stale", irc + ".flock", "." + irc + ".tmp", "." + irc + ".old", name + ".lock.stale"} {
		h.file(filepath.Join(string(h.dir), file), thirdID, 0o644)
	}
}

// unchangeable is what must stay as it is.
func unchangeable(t *testing.T, path string) string {
	t.Helper()
	var at unix.Stat_t
	if err := unix.Lstat(path, &at); err != nil {
		t.Fatal(err)
	}
	text := ""
	if at.Mode&unix.S_IFMT == unix.S_IFREG {
		text = readFile(t, path)
	}
	return fmt.Sprintf("inode %d, mode %o, owner %d:%d, modified %v: %q", at.Ino, at.Mode, at.Uid, at.Gid, at.Mtim, text)
}

// intact sees that nothing was changed that must not be, and nothing made.
func (h *hostileDir) intact(outside []string) {
	h.t.Helper()
	for path, before := range h.kept {
		if after := unchangeable(h.t, path); after != before {
			h.t.Errorf("%s was changed:\n%s\n%s", path, before, after)
		}
	}
	if got := files(h.t, flocklock.Dir(h.private)); !slices.Equal(got, outside) {
		h.t.Errorf("made outside: %q", got)
	}
	if got := files(h.t, flocklock.Dir(filepath.Dir(h.private))); !slices.Equal(got, []string{"locks", "private"}) {
		h.t.Errorf("made outside: %q", got)
	}
}

// Every path that flocklock uses is swapped, between any look and any use, for
// what could lead it astray, by a user who cannot do so himself.
func TestHostileDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	if !isolated(t, namespaces(0)) {
		return
	}
	for what, c := range map[string]struct {
		mode   fs.FileMode
		locker int
	}{
		"root":                       {0o777, 0},
		"root in sticky":             {0o777 | fs.ModeSticky, 0},
		"an ordinary user":           {0o777, ordinaryID},
		"an ordinary user in sticky": {0o777 | fs.ModeSticky, ordinaryID},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHostileDir(t, c.mode, c.locker)
			bystander := spawn(t, "deaf", []string{h.private, scope, secret}, asUser(t, c.locker))
			bystander.expect("held")
			outside := files(t, flocklock.Dir(h.private))
			record := readFile(t, recordPath(flocklock.Dir(h.private)))

			attacker := spawn(t, "attack", []string{string(h.dir), h.private, record}, asUser(t, attackerID))
			attacker.expect("ready")
			locker := spawn(t, "victim", []string{string(h.dir)}, asUser(t, c.locker))
			select {
			case line := <-locker.lines:
				t.Log(line)
			case <-time.After(hostility() + hang):
				t.Fatal("the locker does not come to an end")
			}
			attacker.stdin.Close()
			t.Log(attacker.expect("done"))

			h.intact(outside)
			bystander.tell("are you there?")
			bystander.expect("here")
		})
	}
}

// attack swaps the paths of a lock directory, args[0], for links to what is in
// args[1] and for much else, until he is told to end. args[2] is a record that
// names another's process.
func attack(args []string) {
	dir, private, forged := args[0], args[1], args[2]
	stock := filepath.Join(dir, stock)
	var paths []string
	for _, file := range []string{
		name + ".flock", name + ".lock", "." + name + ".tmp", "." + name + ".old",
		name + ".lock.stale", "." + name + "_abcdefgh.tmp",
	} {
		paths = append(paths, filepath.Join(dir, file))
	}
	var locked *os.File
	links := 0
	kinds := []func(path string){
		func(path string) { os.WriteFile(path, nil, 0o666) },
		func(path string) { os.WriteFile(path, []byte(forged), 0o644) },
		func(path string) {
			os.WriteFile(path, []byte(strings.Replace(forged, `"format":2`, `"old":2`, 1)), 0o644)
		},
		func(path string) { os.WriteFile(path, []byte{0}, 0) },
		func(path string) { os.Symlink(filepath.Join(private, "root"), path) },
		func(path string) { os.Symlink(filepath.Join(private, "locker"), path) },
		func(path string) { os.Symlink(filepath.Join(private, "none"), path) },
		func(path string) { os.Symlink(filepath.Join(private, "folder"), path) },
		func(path string) { os.Symlink(paths[rand.N(len(paths))], path) },
		func(path string) { os.Mkdir(path, 0o777) },
		func(path string) { unix.Mkfifo(path, 0o666) },
		func(path string) {
			os.Rename(filepath.Join(stock, fmt.Sprint(links)), path)
			links++
		},
		func(path string) { // a lock that he holds, and a record that another does
			file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
			if err != nil {
				return
			}
			unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if locked != nil {
				locked.Close()
			}
			locked = file
		},
	}
	fmt.Println("ready")
	end := make(chan struct{})
	go func() { // ends with the process
		waitForParent()
		close(end)
	}()
	for swaps := 0; ; swaps++ {
		select {
		case <-end:
			fmt.Println("done", swaps, "swaps")
			return
		default:
		}
		path, made := paths[rand.N(len(paths))], filepath.Join(stock, "new")
		kinds[rand.N(len(kinds))](made)
		if os.Rename(made, path) == nil {
			continue
		}
		os.RemoveAll(path) // one of the two is a folder
		os.Rename(made, path)
		os.RemoveAll(made)
	}
}

// victim does everything to a lock for a while, and tells what took longest.
func victim(args []string) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})))
	dir := flocklock.Dir(args[0])
	slowest, of := time.Duration(0), ""
	n := 0
	do := func(what string, op func(ctx context.Context)) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		op(ctx)
		n++
		if took := time.Since(began); took > slowest {
			slowest, of = took, what
		}
	}
	use := func(l *flocklock.Lock, err error) {
		if err == nil {
			l.Check()
			l.Release()
		}
	}
	quick := flocklock.TakeOverOptions{Grace: time.Millisecond, Force: true}
	for end := time.Now().Add(hostility()); time.Now().Before(end); {
		do("TryAcquire", func(context.Context) { use(dir.TryAcquire(scope, secret)) })
		do("Acquire", func(ctx context.Context) { use(dir.Acquire(ctx, scope, secret)) })
		do("Inspect", func(context.Context) { dir.Inspect(scope, secret) })
		do("List", func(context.Context) { dir.List() })
		do("Migrate", func(context.Context) { dir.Migrate(flocklock.MigrateOptions{}) })
		do("Holders", func(context.Context) { dir.Holders(name) })
		do("Clear", func(context.Context) { dir.Clear(name) })
		do("TakeOver", func(ctx context.Context) { use(dir.TakeOver(ctx, scope, secret, quick)) })
		do("EndHolder", func(ctx context.Context) { dir.EndHolder(ctx, name, quick) })
	}
	fmt.Println("done", n, "operations, the slowest", of, "in", slowest)
}

// hostility is how long the attacker is at work.
func hostility() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(stressEnv)); err == nil {
		return d
	}
	return 500 * time.Millisecond
}

// SECURITY.md names tests that there are.
func TestSecurityNamesTests(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "cmd/flocklock/*_test.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			sources.WriteString(readFile(t, path))
		}
	}
	named := regexp.MustCompile(`\bTest\w+`).FindAllString(readFile(t, "SECURITY.md"), -1)
	if len(named) == 0 {
		t.Error("it names none")
	}
	for _, name := range named {
		if !strings.Contains(sources.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
}
