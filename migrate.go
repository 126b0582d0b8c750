// Legacy records: judging whether their owner lives, and migrating a directory
// of them.

package flocklock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// verdict is what was found about a record, with the reason in words.
type verdict struct {
	live       bool
	stopped    bool
	elsewhere  bool
	unfinished bool // no record yet, but an old gateway may be writing one
	reason     string

	// start is the living owner's start time, where the record does not tell
	// it in a form that old gateways read.
	start *int64
}

func stale(format string, args ...any) verdict {
	return verdict{reason: fmt.Sprintf(format, args...)}
}

func live(format string, args ...any) verdict {
	return verdict{live: true, reason: fmt.Sprintf(format, args...)}
}

const (
	// beganSlack is how much later than its own record a process may seem to
	// begin, for clocks are read at different moments and step a little.
	beganSlack = 2 * time.Second

	// fileTimeSlack is the same where only the file's time says when it was
	// written, which may be a file server's clock.
	fileTimeSlack = time.Minute
)

// judge finds out whether the owner of what stands at a record's path lives.
// It must be asked under the kernel lock. The first rule that decides wins;
// where nothing decides, the owner lives.
func judge(c *content, looksLikeGateway func(argv []string) bool) verdict {
	r := c.record
	switch {
	case !c.info.Mode().IsRegular():
		return stale("not a file but %s, which no gateway made", kindOf(c.info.Mode()))
	case r == nil && c.info.Size() > maxRecord:
		return stale("larger than any record: %d bytes", c.info.Size())
	case r == nil:
		v := stale("not a record, and nobody finished writing it")
		v.unfinished = time.Since(c.info.ModTime()) < writingAge
		return v
	case c.ours():
		return stale("left by a flocklock process that ended: %s", r.owner())
	case r.PID == 0:
		return stale("its pid is not a process number")
	}
	if v, decided := judgePlace(c); decided {
		return v
	}
	f := examine(r.PID)
	switch {
	case f.err != nil:
		return live("PID %d lives and cannot be looked at now: %v", r.PID, f.err)
	case f.zombie:
		return stale("PID %d has ended; its parent has not reaped it", r.PID)
	case !f.alive:
		return stale("no process has PID %d", r.PID)
	}
	v := judgeProcess(c, f, looksLikeGateway)
	if v.live && f.stopped {
		v.stopped = true
		v.reason += "; it is stopped"
	}
	if v.live && (r.StartTime == nil || c.trust != whole) {
		v.start = f.start
	}
	return v
}

// kindOf names what stands at a path in place of a file.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

// judgePlace decides by where and in which boot the record was written.
func judgePlace(c *content) (verdict, bool) {
	r := c.record
	if reason, where := r.elsewhere(); where == otherBoot {
		return stale("%s", reason), true
	} else if where == otherPlace {
		v := live("PID %d is not checked: %s", r.PID, reason)
		v.elsewhere = true
		return v, true
	}
	if r.BootID != "" {
		return verdict{}, false
	}
	up, ok := sinceBoot()
	if !ok {
		return verdict{}, false
	}
	boot := time.Now().Add(self().bootOffset - up)
	written, ownWord := c.writtenAt()
	if written.Before(boot.Add(-slack(ownWord))) {
		return stale("written %s, before this system started %s",
			written.UTC().Format(time.RFC3339), boot.UTC().Format(time.RFC3339)), true
	}
	return verdict{}, false
}

func slack(ownWord bool) time.Duration {
	if ownWord {
		return beganSlack
	}
	return fileTimeSlack
}

// where says whether a record's PID can be checked from here.
type where int

const (
	here       where = iota
	otherBoot        // this host, another boot: its processes are gone
	otherPlace       // cannot be checked from here
)

// elsewhere says where a record was written, and how that is known. Keys that
// the record or this system lacks say nothing.
func (r *Record) elsewhere() (reason string, _ where) {
	me := self()
	sameBoot := r.BootID != "" && r.BootID == me.bootID
	bothBoots := r.BootID != "" && me.bootID != ""
	switch {
	case bothBoots && !sameBoot && r.Host != "" && r.Host == me.host:
		return "written before this system started", otherBoot
	case r.PIDNamespace != "" && me.pidNS != "" && r.PIDNamespace != me.pidNS:
		return "other PID namespace", otherPlace
	case sameBoot:
		return "", here // a host may change its name; it is the same kernel
	case r.Host != "" && r.Host != me.host:
		return "other host", otherPlace
	case bothBoots && !sameBoot:
		return "other boot", otherPlace
	}
	return "", here
}

// judgeProcess decides whether a living process is the one that wrote the
// record.
func judgeProcess(c *content, f facts, looksLikeGateway func([]string) bool) verdict {
	r := c.record
	if r.StartTime != nil {
		switch equal, comparable := startsEqual(*r.StartTime, f); {
		case equal && r.PID == self().pid:
			return stale("this process wrote it before it became another program")
		case equal:
			return live("PID %d runs since the time that the record says", r.PID)
		case comparable:
			return stale("PID %d is another process by now: it began at %d, the record says %d", r.PID, *f.start, *r.StartTime)
		}
	}
	written, ownWord := c.writtenAt()
	if !f.began.IsZero() && f.began.After(written.Add(slack(ownWord))) {
		return stale("PID %d is another process by now: it began %s, after the record was written %s",
			r.PID, f.began.UTC().Format(time.RFC3339), written.UTC().Format(time.RFC3339))
	}
	argv, err := commandLine(r.PID)
	if err != nil {
		return live("PID %d lives and cannot be looked at now: %v", r.PID, err)
	}
	if len(argv) > 0 {
		if looksLikeGateway(argv) {
			return live("PID %d runs a gateway's command line", r.PID)
		}
		return stale("PID %d is no gateway: it runs %s", r.PID, printable(strings.Join(withoutIdentity(withoutFlags(argv), c.hash), " ")))
	}
	if looksLikeGateway(c.argv) {
		return live("PID %d lives, its command line cannot be read, and the record's is a gateway's", r.PID)
	}
	return stale("PID %d lives, but neither its command line nor the record's is a gateway's", r.PID)
}

// LooksLikeGateway reports whether a command line is that of an old gateway:
// the script gateway/run.py, a program named hermes-gateway, or hermes with
// the word gateway followed by nothing, "run" or "restart", whatever profile
// is chosen before it. It is what judges legacy records unless
// [WithLooksLikeGateway] or [MigrateOptions] give another.
func LooksLikeGateway(argv []string) bool {
	var words, bases []string
	hermes, profileNext := false, false
	for token := range strings.FieldsSeq(strings.Join(argv, " ")) {
		word := strings.ToLower(strings.ReplaceAll(strings.Trim(token, `"'`), `\`, "/"))
		base := baseName(word)
		bases = append(bases, base)
		switch {
		case word == "gateway/run.py" || strings.HasSuffix(word, "/gateway/run.py"):
			return true
		case base == "hermes-gateway" || base == "hermes-gateway.exe":
			return true
		case base == "hermes" || base == "hermes.exe" ||
			strings.Contains(word, "hermes_cli.main") || strings.Contains(word, "hermes_cli/main.py"):
			hermes = true
		}
		switch {
		case profileNext:
			profileNext = false
		case word == "--profile" || word == "-p":
			profileNext = true
		case !strings.HasPrefix(word, "--profile=") && !strings.HasPrefix(word, "-p="):
			words = append(words, word)
		}
	}
	i := slices.Index(words, "gateway")
	if !hermes || i < 0 {
		return false
	}
	return i+1 == len(words) || words[i+1] == "run" || words[i+1] == "restart"
}

// MigrateOptions say how [Dir.Migrate] works. The zero value migrates.
type MigrateOptions struct {
	// DryRun changes nothing and reports what would be done.
	DryRun bool

	// LooksLikeGateway takes the place of [LooksLikeGateway] where it is set.
	LooksLikeGateway func(argv []string) bool

	// Logger is told of every file that is removed or converted. The default
	// is slog.Default.
	Logger *slog.Logger
}

func (o MigrateOptions) judge(c *content) verdict { return judge(c, o.LooksLikeGateway) }

// Action is what [Dir.Migrate] did with a file.
type Action string

const (
	// Removed is a file that nobody owns any more.
	Removed Action = "removed"

	// Converted is a living old gateway's record that now tells when its
	// process began.
	Converted Action = "converted"

	// Kept is a file that stays as it is.
	Kept Action = "kept"

	// SkippedHeld is a file of a lock that some process holds.
	SkippedHeld Action = "skipped-held"
)

// A Migrated says what [Dir.Migrate] did with one file and why.
type Migrated struct {
	Name   string `json:"name"`
	Action Action `json:"action"`
	Reason string `json:"reason"`
}

// Migrate goes over the directory and removes what old gateways left behind:
// records whose owner is gone, tombstones, temporary files. The record of an
// old gateway that lives stays; where it has no start time, that is filled in,
// every other key kept, so that old and new see it when the PID is recycled one
// day. A file with nothing but a PID becomes such a record. What a process
// holds is not touched: each file is looked at under its kernel lock.
//
// The report has one entry for each file that is not a lock file, in the order
// of names. Where a file could not be looked at or changed, its entry says so,
// and the error joins all such errors. A directory that does not exist is
// empty.
//
// Migrate may run while gateways start and stop, in any number of processes.
func (d Dir) Migrate(o MigrateOptions) ([]Migrated, error) {
	if o.LooksLikeGateway == nil {
		o.LooksLikeGateway = LooksLikeGateway
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	entries, err := d.entries()
	if err != nil {
		return nil, err
	}
	var report []Migrated
	var errs []error
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), lockSuffix) {
			continue
		}
		m, err := d.migrateFile(entry.Name(), o)
		if err != nil {
			m = Migrated{Name: entry.Name(), Action: Kept, Reason: err.Error()}
			errs = append(errs, err)
		}
		report = append(report, m)
		if !o.DryRun && (m.Action == Removed || m.Action == Converted) {
			o.Logger.Info("flocklock: migrated", "dir", string(d), "name", m.Name,
				"action", string(m.Action), "reason", m.Reason)
		}
	}
	return report, errors.Join(errs...)
}

// migrateFile migrates one file under the kernel lock of the record it is or
// belongs to.
func (d Dir) migrateFile(file string, o MigrateOptions) (m Migrated, err error) {
	m = Migrated{Name: file, Action: Kept}
	name, kind := recordName(file)
	if kind == notOurs {
		m.Reason = "not named as a record is"
		return m, nil
	}
	done, err := d.lockToMigrate(name, o.DryRun)
	if errors.Is(err, errWouldBlock) {
		m.Action, m.Reason = SkippedHeld, "a process holds the lock"
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, done()) }()
	path := filepath.Join(string(d), file)
	switch kind {
	case record:
		m, err = migrateRecord(path, name, m, o)
	case oldLeftover:
		m, err = migrateOldLeftover(path, m, o)
	default:
		m, err = migrateOwnLeftover(path, d.path(name, recordSuffix), m, o)
	}
	var owned *ownedError
	if errors.As(err, &owned) {
		m.Action, m.Reason, err = Kept, owned.Error(), nil
	}
	return m, err
}

// lockToMigrate takes the kernel lock of a name, as a starter would. A dry run
// creates no lock file, and takes the lock only as a prober does.
func (d Dir) lockToMigrate(name string, dryRun bool) (done func() error, err error) {
	if dryRun {
		return d.probe(name)
	}
	file, _, err := d.lock(d.path(name, lockSuffix), (*flock.Flock).TryLock)
	if err != nil {
		return nil, err
	}
	return func() error { return unlock(file) }, nil
}

// fileKind is what a file in a lock directory is.
type fileKind int

const (
	notOurs     fileKind = iota
	record               // of an old gateway or of ours
	oldLeftover          // an old gateway's tombstone or temporary file
	ownLeftover          // a file that claim or convert made beside a record
)

// recordName gives the name of the lock that a file belongs to.
func recordName(file string) (name string, kind fileKind) {
	stem, hidden := strings.CutPrefix(file, ".")
	switch {
	case !hidden:
		if name, kind = strings.TrimSuffix(file, recordSuffix), record; name == file {
			name, kind = strings.TrimSuffix(file, recordSuffix+".stale"), oldLeftover
		}
	default:
		name, hidden = cutAny(stem, tmpSuffix, asideSuffix)
		kind = ownLeftover
		if i := len(name) - len("_XXXXXXXX"); i > 0 && name[i] == '_' {
			name, kind = name[:i], oldLeftover // the rest is the old gateways' random part
		}
		if !hidden {
			return "", notOurs
		}
	}
	if _, _, ok := splitName(name); !ok || name == file {
		return "", notOurs
	}
	return name, kind
}

func cutAny(s string, suffixes ...string) (string, bool) {
	for _, suffix := range suffixes {
		if before, ok := strings.CutSuffix(s, suffix); ok {
			return before, true
		}
	}
	return s, false
}

// leftoverAge is how old an old gateway's leftover must be: a younger one may
// be about to be renamed or removed.
const leftoverAge = time.Minute

func migrateOldLeftover(path string, m Migrated, o MigrateOptions) (Migrated, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		m.Reason = "gone by now"
		return m, nil
	}
	switch {
	case err != nil:
		return m, err
	case !info.Mode().IsRegular():
		m.Reason = "not a file but " + kindOf(info.Mode())
		return m, nil
	case time.Since(info.ModTime()) < leftoverAge:
		m.Reason = "younger than a minute: an old gateway may be using it"
		return m, nil
	}
	m.Action, m.Reason = Removed, wasInterrupted
	if o.DryRun {
		return m, nil
	}
	return m, remove(path)
}

const wasInterrupted = "left over by a process that was interrupted"

// migrateOwnLeftover removes a file that only the holder of the kernel lock
// makes, which we are.
func migrateOwnLeftover(side, path string, m Migrated, o MigrateOptions) (Migrated, error) {
	m.Action, m.Reason = Removed, wasInterrupted
	if left, err := readContent(side); err == nil && left.info != nil && left.living(o.judge) {
		m.Action, m.Reason = Kept, "a living gateway's record, which belongs at its path"
	}
	if o.DryRun {
		return m, nil
	}
	if tmp := sidePath(path, tmpSuffix); side == tmp {
		return m, makeAllWay(tmp, path, o.judge)
	}
	return m, makeWay(side, path, o.judge)
}

func migrateRecord(path, name string, m Migrated, o MigrateOptions) (Migrated, error) {
	found, v, err := readFinished(path, o.judge)
	switch {
	case err != nil:
		return m, err
	case found.info == nil:
		m.Reason = "gone by now"
		return m, nil
	case found.info.IsDir():
		m.Reason = v.reason
		return m, nil
	case v.live && v.start == nil && found.trust == whole:
		m.Reason = v.reason
		return m, nil
	case v.live && v.start == nil:
		m.Reason = v.reason + "; its start time cannot be known"
		return m, nil
	case v.live && !belongsTo(found.info, found.record.PID):
		m.Reason = v.reason + "; another user wrote the record, so that it is not made ours"
		return m, nil
	case v.live:
		m.Action, m.Reason = Converted, v.reason
		if o.DryRun {
			return m, nil
		}
		return convert(path, name, found, *v.start, m, o.judge)
	}
	m.Action, m.Reason = Removed, v.reason
	if o.DryRun {
		return m, nil
	}
	return removeJudged(path, name, found, m, o.judge)
}

// removeJudged removes what was judged and nothing else: an old gateway may
// have put its record there a moment ago. A record of ours takes its place
// first, so that the path is never free for two to take.
func removeJudged(path, name string, judged *content, m Migrated, judge func(*content) verdict) (Migrated, error) {
	scope, _, _ := splitName(name)
	record, text := (&request{scope: scope, name: name, options: &options{}, metadata: []byte("{}")}).newRecord()
	tmp := sidePath(path, tmpSuffix)
	written, err := writeBeside(tmp, path, text, judge)
	if err != nil {
		return m, err
	}
	defer removeOwn(tmp, path, written)
	placed, err := replace(tmp, path, written, text, judged, judge)
	if err != nil {
		return m, err
	}
	if placed.none() {
		m.Action, m.Reason = Kept, changedMeanwhile
		return m, nil
	}
	return m, removeRecord(path, placed, record.ID)
}

const changedMeanwhile = "an old gateway wrote it anew, or removed it, meanwhile"

// convert fills in the start time of a living owner.
func convert(path, name string, judged *content, start int64, m Migrated, judge func(*content) verdict) (Migrated, error) {
	text, err := converted(name, judged, start)
	if err != nil {
		return m, err
	}
	tmp := sidePath(path, tmpSuffix)
	written, err := writeBeside(tmp, path, text, judge)
	if err != nil {
		return m, err
	}
	defer removeOwn(tmp, path, written)
	placed, err := replaceLive(tmp, path, written, text, judged)
	if err == nil && placed.none() {
		m.Action, m.Reason = Kept, changedMeanwhile
	}
	return m, err
}

// replaceLive replaces a living owner's record. Where two names cannot be
// exchanged it renames over it, after a last look: to move the record aside
// would leave its path empty, for another old gateway to take.
func replaceLive(tmp, path string, written mark, text []byte, judged *content) (mark, error) {
	now, err := readContent(path)
	if err != nil || !now.same(judged) {
		return mark{}, err
	}
	err = exchange(tmp, path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil && noSuchCall(err) {
		return written, whileInUse(func() error { return os.Rename(tmp, path) })
	}
	if err != nil {
		return mark{}, err
	}
	if out, err := readContent(tmp); err == nil && out.same(judged) {
		return written, remove(tmp)
	}
	if err = exchange(tmp, path); errors.Is(err, fs.ErrNotExist) {
		err = renameNoReplace(tmp, path)
	}
	return mark{}, err
}

// converted is a legacy record with its start time filled in, every other key
// kept as it is.
func converted(name string, judged *content, start int64) ([]byte, error) {
	if judged.trust == whole {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(trimBOM(judged.text), &keys); err != nil {
			return nil, err
		}
		keys["start_time"] = json.RawMessage(fmt.Sprint(start))
		return json.Marshal(keys)
	}
	scope, hash, _ := splitName(name)
	argv, err := commandLine(judged.record.PID)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Record{
		PID: judged.record.PID, Kind: kindGateway, Argv: withoutIdentity(withoutFlags(argv), hash),
		StartTime: &start, Scope: scope, IdentityHash: hash, UpdatedAt: judged.info.ModTime(),
	})
}
