// Package flocklock locks a resource that two processes must never use at once,
// such as the token of a bot, and tells who holds it.
//
// The lock is the kernel's: flock(2) on Unix, LockFileEx on Windows, taken on a
// small file in a lock directory. The kernel drops it when the process ends,
// however it ends, so that there is no stale lock and nothing to clean up by
// hand. A JSON record beside the lock file says who holds the lock, for people
// to read; between flocklock processes it decides nothing.
//
//	dir, err := flocklock.DefaultDir()
//	...
//	lock, err := dir.TryAcquire("telegram-bot-token", token)
//	if errors.Is(err, flocklock.ErrHeld) {
//		// The error says by whom. Try again later: a conflict is never final.
//	}
//	...
//	defer lock.Release()
//
// The record stands where the gateways that flocklock replaces put their
// lockfiles, in a format that they read, and theirs are honoured: see
// [Dir.Migrate], and [AcquireScopedLock] for the function that replaces theirs.
//
// What is locked is named by a scope, the kind of resource, and an identity,
// its secret name. The identity is written nowhere; the first 16 hex digits of
// its SHA-256 are.
//
// Locks exclude goroutines of one process as they exclude processes. All
// functions and methods may be called by any number of goroutines at once.
//
// # Linux
//
// The lock is that of flock(2). It is tied to the open file, not to the
// process: a child that is given the file of [Lock.File] holds on to the lock
// when its parent has died. All files are opened close-on-exec, so no child
// gets one by accident. On NFS flock is emulated by byte-range locks and
// excludes other hosts where the server supports that; other network and FUSE
// file systems may lock for one host only.
//
// # macOS
//
// As on Linux. There are no PID namespaces.
//
// # Windows
//
// The lock is that of LockFileEx on the first byte of the lock file, which the
// holder keeps open without sharing its deletion: nobody can remove it. The
// system may drop the lock of a killed process a little late. A lock belongs
// to its process and is not inherited.
//
// # Solaris, AIX
//
// These have no flock: gofrs/flock takes an fcntl lock there, which flock(1) does
// not see and which the system drops as soon as the process closes any
// descriptor of the file: do not inspect or try a lock that the same process
// holds. Illumos has flock.
package flocklock

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gofrs/flock"
)

// ErrHeld is what errors.Is finds in the error of an acquire that was refused
// because the lock is held; errors.As finds the [*HeldError]. It is never
// final: the same call may succeed as soon as the holder has gone.
var ErrHeld = errors.New("flocklock: held")

// ErrLost is what errors.Is finds in the error of [Lock.Check] when the lock
// no longer excludes others.
var ErrLost = errors.New("flocklock: lost")

// errWouldBlock says that the kernel refused a lock because somebody has it.
var errWouldBlock = errors.New("flocklock: would block")

// A HeldError says who holds a lock that was refused.
type HeldError struct {
	Scope  string
	Holder Holder
}

// Error says in a sentence who holds the lock and what to do.
func (e *HeldError) Error() string { return "flocklock: " + e.Scope + " is " + e.Holder.String() }

// Is reports whether target is [ErrHeld].
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// A Dir is a directory of locks. Processes that must exclude each other must
// use the same one; see [DefaultDir]. It is made, with mode 0700, when the
// first lock in it is taken.
type Dir string

const (
	lockSuffix   = ".flock" // old gateways remove and rename what ends in .lock
	recordSuffix = ".lock"
	maxScope     = 128 // bytes
)

// An Option changes how a lock is taken or looked at.
type Option func(*options)

type options struct {
	metadata         map[string]any
	profile          string
	hermesHome       string
	logger           *slog.Logger
	looksLikeGateway func(argv []string) bool
	onWait           func(Wait)
	takenOverFrom    int // the PID that a take-over ended
}

func newOptions(opts []Option) *options {
	o := &options{}
	for _, apply := range opts {
		if apply != nil {
			apply(o)
		}
	}
	if o.looksLikeGateway == nil {
		o.looksLikeGateway = LooksLikeGateway
	}
	return o
}

func (o *options) log() *slog.Logger {
	if o.logger != nil {
		return o.logger
	}
	return slog.Default()
}

// WithMetadata puts the caller's own facts into the record. They must be
// encodable as JSON, and are for everybody to read.
func WithMetadata(metadata map[string]any) Option {
	metadata = maps.Clone(metadata)
	return func(o *options) { o.metadata = metadata }
}

// WithProfile puts the name of the gateway's profile, [a-z0-9][a-z0-9_-]{0,63},
// into the record.
func WithProfile(name string) Option {
	return func(o *options) { o.profile = name }
}

// WithHermesHome puts the gateway's home directory into the record.
func WithHermesHome(path string) Option {
	return func(o *options) { o.hermesHome = path }
}

// WithLogger sets who is told of what an error does not tell: a record that
// could not be written, a legacy record that was found stale, and the other
// events from [EventAcquired] to [EventRecord]. The default is slog.Default.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// WithLooksLikeGateway sets what tells an old gateway's command line from
// another; the default is [LooksLikeGateway].
func WithLooksLikeGateway(looks func(argv []string) bool) Option {
	return func(o *options) { o.looksLikeGateway = looks }
}

// A Lock is a lock that this process holds, until [Lock.Release] or its end. A
// Lock that the program forgets stays held.
type Lock struct {
	scope      string
	name       string
	path       string
	recordPath string
	options    *options
	info       fs.FileInfo // the lock file
	file       *flock.Flock
	record     Record
	text       []byte // the record's JSON

	mu        sync.Mutex
	placed    mark // the record where it was written; zero: it was not
	recordErr error
	released  bool
	lost      chan struct{} // nil: nobody asked
	watch     *time.Timer   // of lost

	scoped int // acquires through the drop-in; held.dropIn guards it
}

// held is every lock that this process holds. It tells a lock of ours from
// another process's, and keeps the garbage collector from closing one that
// the program forgot.
var held registry

type registry struct {
	mu    sync.Mutex
	locks map[string][]*Lock // by name; locks of several directories may share one

	dropIn sync.Mutex // the drop-in does one thing at a time

	waiting waiting
}

func (r *registry) add(l *Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.locks == nil {
		r.locks = make(map[string][]*Lock)
	}
	r.locks[l.name] = append(r.locks[l.name], l)
}

func (r *registry) remove(l *Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := slices.DeleteFunc(r.locks[l.name], func(other *Lock) bool { return other == l })
	if r.locks[l.name] = rest; len(rest) == 0 {
		delete(r.locks, l.name)
	}
}

// named returns the locks of a name.
func (r *registry) named(name string) []*Lock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.locks[name])
}

// all returns every lock.
func (r *registry) all() []*Lock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(r.locks))...)
}

// find returns the lock that this process holds on the lock file at a path.
func (r *registry) find(name, path string) *Lock {
	locks := r.named(name)
	if len(locks) == 0 {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	for _, l := range locks {
		if os.SameFile(l.info, info) {
			return l
		}
	}
	return nil
}

// TryAcquire takes the lock of a scope and an identity, or says at once why it
// cannot.
//
// scope is [A-Za-z0-9][A-Za-z0-9._-]*, at most 128 bytes; identity is valid
// UTF-8 and not empty, else the error is fs.ErrInvalid.
//
// On success this process holds the lock, alone among all processes that use
// flocklock on this directory, and no old gateway that is known to live owns
// it. The record says so unless [Lock.RecordErr] is not nil.
//
// On failure nothing is held. The error is a [*HeldError], which is [ErrHeld],
// when the lock is held by another process, by another Lock of this one, or by
// an old gateway; an *fs.PathError when the system refused something, which is
// errors.ErrUnsupported when the file system cannot lock.
func (d Dir) TryAcquire(scope, identity string, opts ...Option) (*Lock, error) {
	r, err := d.request(scope, identity, opts)
	if err != nil {
		return nil, err
	}
	return r.try()
}

// try takes the lock at once, or within the short time that a refusal without a
// living holder may need.
func (r *request) try() (*Lock, error) {
	// Where nobody living is in sight, a prober has the lock for a moment, or a
	// holder is about to write its record.
	for wait := time.Millisecond; ; wait *= 2 {
		lock, err := r.acquire()
		if err == nil {
			return lock, nil
		}
		var refused *HeldError
		if !errors.As(err, &refused) {
			return nil, err
		}
		if !refused.Holder.unverified() || wait > maxRefusalWait {
			r.options.event(slog.LevelDebug, EventRefused, "a lock is held",
				r.scope, r.path, "holder", refused.Holder)
			return nil, err
		}
		time.Sleep(wait)
	}
}

// maxRefusalWait is the longest of the waits of TryAcquire, each twice the one
// before: together they are less than 50 ms.
const maxRefusalWait = 16 * time.Millisecond

// A request is the lock that somebody wants, and how.
type request struct {
	dir                   Dir // absolute
	scope, identity, name string
	path, recordPath      string
	options               *options
	metadata              []byte // as JSON, for the caller's map is the caller's
}

func (d Dir) request(scope, identity string, opts []Option) (request, error) {
	name, err := d.lockName(scope, identity)
	if err != nil {
		return request{}, err
	}
	return newRequest(d, scope, identity, name, opts)
}

// requestOf is a request for the lock of a name, of which the identity is not
// known.
func (d Dir) requestOf(name string, opts []Option) (request, error) {
	if d == "" {
		return request{}, errNoDir
	}
	scope, _, ok := splitName(name)
	if !ok || !filepath.IsLocal(name) {
		// It is not repeated: it may be the identity, by mistake.
		return request{}, fmt.Errorf("flocklock: the name is not that of a lock, a scope and 16 hex digits: %w", fs.ErrInvalid)
	}
	return newRequest(d, scope, "", name, opts)
}

func newRequest(d Dir, scope, identity, name string, opts []Option) (r request, err error) {
	r = request{dir: d, scope: scope, identity: identity, name: name, options: newOptions(opts)}
	if !filepath.IsAbs(string(d)) { // the working directory may change
		abs, err := filepath.Abs(string(d))
		if err != nil {
			return r, err
		}
		r.dir = Dir(abs)
	}
	r.path = r.dir.path(name, lockSuffix)
	r.recordPath = strings.TrimSuffix(r.path, lockSuffix) + recordSuffix
	if profile := r.options.profile; profile != "" && !isProfile(profile) {
		// It is not repeated: it may be the identity, by mistake.
		return r, fmt.Errorf("flocklock: the profile is not [a-z0-9][a-z0-9_-]{0,63}: %w", fs.ErrInvalid)
	}
	if r.metadata, err = encodeMetadata(r.options.metadata); err != nil {
		return r, fmt.Errorf("flocklock: metadata: %w: %w", fs.ErrInvalid, err)
	}
	const surelyFit = 8 << 10                                    // with the longest command line
	if len(r.metadata)+6*len(r.options.hermesHome) < surelyFit { // an escape has six characters
		return r, nil
	}
	if _, text := r.newRecord(); len(text) > maxRecord {
		return r, fmt.Errorf("flocklock: metadata: the record would have %d bytes, more than %d: %w", len(text), maxRecord, fs.ErrInvalid)
	}
	return r, nil
}

// acquire takes the lock in one attempt.
func (r *request) acquire() (*Lock, error) {
	file, info, err := r.dir.lock(r.path, (*flock.Flock).TryLock)
	if errors.Is(err, errWouldBlock) {
		return nil, &HeldError{r.scope, r.dir.holder(r.name, r.options)}
	}
	if err != nil {
		return nil, err
	}
	return r.hold(file, info)
}

// hold makes a Lock of the kernel's lock on a file, or gives that back.
func (r *request) hold(file *flock.Flock, info fs.FileInfo) (_ *Lock, err error) {
	record, text := r.newRecord() // now, and not before a wait
	l := &Lock{
		scope: r.scope, name: r.name, path: r.path, recordPath: r.recordPath,
		options: r.options, info: info, file: file, record: record, text: text,
	}
	held.add(l) // before the claim, which may take a while
	claimed := false
	defer func() {
		if !claimed { // the caller's own functions may panic in there
			held.remove(l)
			err = errors.Join(err, unlock(file))
		}
	}()
	if err := l.claim(); err != nil {
		return nil, err
	}
	claimed = true
	l.tell(slog.LevelDebug, EventAcquired, "took a lock")
	return l, nil
}

// tell tells the logger of a lock that was taken, which nobody would give back
// if the logger did not return.
func (l *Lock) tell(level slog.Level, event, message string, attrs ...any) {
	returned := false
	defer func() {
		if !returned {
			l.Release()
		}
	}()
	l.options.event(level, event, message, l.scope, l.path, attrs...)
	returned = true
}

// newRecord makes the record of an acquisition.
func (req *request) newRecord() (Record, []byte) {
	o, me, now := req.options, self(), time.Now().UTC().Truncate(time.Microsecond)
	r := Record{
		PID: me.pid, Kind: kindGateway, Argv: withoutSecret(me.argv, req.identity), StartTime: me.start,
		Scope: req.scope, IdentityHash: req.name[len(req.scope)+1:], Metadata: o.metadata, UpdatedAt: now,
		HermesHome: o.hermesHome, Profile: o.profile,
		Format: recordFormat, ID: rand.Text(), AcquiredAt: now,
		Host: me.host, BootID: me.bootID, PIDNamespace: me.pidNS,
	}
	if o.takenOverFrom != 0 {
		r.TakenOverFrom, r.TakenOverAt = o.takenOverFrom, now
	}
	return r, r.encode(req.metadata)
}

// claim puts the record at its path. It fails where a gateway that does not
// know the kernel lock owns that path, or may own it. l.mu is held, or nobody
// else knows l yet.
func (l *Lock) claim() error {
	var last verdict
	placed, err := claim(l.recordPath, l.text, func(c *content) verdict {
		last = judge(c, l.options.looksLikeGateway)
		return last
	})
	if err != nil {
		return l.unclaimed(err)
	}
	l.placed, l.recordErr = placed, nil
	if last.reason != "" {
		l.options.event(slog.LevelInfo, EventRecord, "replaced what was left at the record's path",
			l.scope, l.recordPath, "reason", last.reason)
	}
	return nil
}

// unclaimed is the error of a claim that failed; none where no gateway owns the
// path, so that only the record is missing.
func (l *Lock) unclaimed(err error) error {
	var owned *ownedError
	if errors.As(err, &owned) {
		return &HeldError{l.scope, owned.verdict.holder(owned.record)}
	}
	if mayBeOwned(err) {
		return err
	}
	l.placed, l.recordErr = mark{}, err
	l.options.event(slog.LevelWarn, EventRecord, "the lock is held, but nobody can see by whom",
		l.scope, l.recordPath, "err", err)
	return nil
}

// Release gives the lock up. On return it is free, unless the error says that
// the system refused to unlock it; then Release may be called again. An error
// that concerns the record only leaves the lock released: the record is a
// leftover then, which the next holder replaces.
//
// Releasing a released lock does nothing.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return nil
	}
	recordErr := removeRecord(l.recordPath, l.placed, l.record.ID)
	l.placed = mark{}
	if err := unlock(l.file); err != nil {
		return errors.Join(err, recordErr)
	}
	l.released = true
	if l.watch != nil {
		l.watch.Stop()
	}
	held.remove(l)
	return recordErr
}

func (l *Lock) isReleased() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.released
}

// unlockAttempts bounds how often the system is asked to unlock. Where it refuses
// once, as a file server may, and no Lock was made, nobody else would ask again.
const unlockAttempts = 8

// unlock unlocks and closes. Close alone would leave the lock held for as long
// as a child between fork and exec shares the descriptor.
func unlock(file *flock.Flock) error {
	var err error
	for range unlockAttempts {
		if err = file.Unlock(); err == nil {
			return nil
		}
	}
	return &fs.PathError{Op: "unlock", Path: file.Path(), Err: err}
}

// Check says whether the lock is still what it was when it was taken.
//
// nil means that the lock file is still at its path and that no old gateway
// has taken the record's. A record that somebody removed is put back; where
// that fails, [Lock.RecordErr] tells.
//
// The error is [ErrLost] when somebody removed or replaced the lock file, so
// that another process can lock the new one, or when another flocklock process
// wrote its record, so that the file system does not exclude. It is a
// [*HeldError] when an old gateway took the path of the record, os.ErrClosed
// after Release, and an *fs.PathError when the system does not let us look.
func (l *Lock) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return &fs.PathError{Op: "check", Path: l.path, Err: os.ErrClosed}
	}
	there, err := standsThere(l.path, l.info)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !there {
		return fmt.Errorf("%w: %s was removed or replaced while it was held, so another process can hold its own; "+
			"stop using what it guards, then acquire it again", ErrLost, l.path)
	}
	if err != nil {
		return err
	}
	if !l.placed.none() && standsAt(l.recordPath, l.placed) {
		return nil
	}
	found, err := readContent(l.recordPath)
	switch {
	case err != nil || found.info == nil || !found.ours() || l.placed.none():
		return l.claim()
	case found.record.ID == l.record.ID:
		l.placed, l.recordErr = found.mark, nil
		return nil
	default:
		return fmt.Errorf("%w: %s holds it too: locks do not exclude on the file system of %s",
			ErrLost, found.record.owner(), l.path)
	}
}

// Record returns what the lock's record says. The caller must not change its
// map and slice.
func (l *Lock) Record() Record { return l.record }

// RecordErr says why the record could not be written; nil when it was. The lock
// is held all the same, but nobody can see by whom, and old gateways cannot see
// it.
func (l *Lock) RecordErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recordErr
}

// Path returns the path of the lock file.
func (l *Lock) Path() string { return l.path }

// File returns a duplicate of the open lock file, to be given to a child, as
// one of exec.Cmd's ExtraFiles for instance. The lock is held until this
// process releases it, or until the last process that has the file open ends.
// The caller closes the duplicate, which does not release the lock.
//
// Where locks are not inherited, as on Windows, the error is
// errors.ErrUnsupported.
func (l *Lock) File() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return nil, &fs.PathError{Op: "dup", Path: l.path, Err: os.ErrClosed}
	}
	return lockedFile(l.path, l.info)
}

func (d Dir) path(name, suffix string) string { return filepath.Join(string(d), name+suffix) }

// lockAttempts bounds how often a lock file is opened anew because somebody
// replaced it, or removed its directory, meanwhile.
const lockAttempts = 1000

// lock takes the kernel lock of a path in the directory by one of gofrs's functions.
// errWouldBlock means that somebody has it. On success the path names the file
// that is locked.
func (d Dir) lock(path string, take func(*flock.Flock) (bool, error)) (*flock.Flock, fs.FileInfo, error) {
	for range lockAttempts {
		var file *flock.Flock
		err := whileInUse(func() (err error) {
			file, err = lockOpened(path, take)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			err := os.MkdirAll(string(d), 0o700)
			if errors.Is(err, fs.ErrExist) {
				err = d.mayBeMissing() // it came and went meanwhile
			}
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		info, err := d.verify(file)
		if info != nil {
			shareLockFile(path, info)
			return file, info, nil
		}
		if err = errors.Join(err, unlock(file)); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, &fs.PathError{Op: "lock", Path: path, Err: errors.New("the lock file or its directory keeps being removed; find out by whom")}
}

// verify returns what the locked file is, or nil where its path names another
// by now.
func (d Dir) verify(file *flock.Flock) (fs.FileInfo, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notLockFile(file.Path(), info.Mode())
	}
	there, err := standsThere(file.Path(), info)
	if there {
		return info, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if at, err := os.Lstat(file.Path()); err == nil && !at.Mode().IsRegular() {
		return nil, notLockFile(file.Path(), at.Mode())
	}
	return nil, nil
}

func notLockFile(path string, mode fs.FileMode) error {
	return &fs.PathError{Op: "lock", Path: path, Err: fmt.Errorf(
		"%s stands where the lock file should; find out who made it and move it away, or use another directory", kindOf(mode))}
}

// lockOpened opens and locks a lock file in the first way that is allowed.
// Flock needs no more than an open file. What stops a way may not stop the
// next: a sticky directory under fs.protected_regular refuses O_CREAT of
// another user's file, which root's leftover may be.
func lockOpened(path string, take func(*flock.Flock) (bool, error)) (*flock.Flock, error) {
	var refused error
	for _, flags := range []int{os.O_RDWR | os.O_CREATE, os.O_RDWR, os.O_RDONLY} {
		// Whoever may look into the directory may lock: a file of root's must
		// not block the user whose directory it is.
		file := flock.New(path, flock.SetFlag(flags|safeOpen), flock.SetPermissions(0o644))
		err := kernelLock(file, take)
		if err == nil || errors.Is(err, errWouldBlock) {
			return file, err
		}
		if refused == nil {
			refused = err
		}
		if !notAllowed(err) {
			if !notAllowed(refused) || !errors.Is(err, fs.ErrNotExist) {
				refused = err
			}
			break
		}
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, notLockFile(path, info.Mode())
	}
	return nil, refused
}

// kernelLock calls one of gofrs's functions and says what its answer means.
func kernelLock(file *flock.Flock, take func(*flock.Flock) (bool, error)) error {
	for {
		locked, err := take(file)
		if locked {
			return nil
		}
		if err == nil {
			return errWouldBlock
		}
		var opening *fs.PathError
		switch {
		case interrupted(err):
			continue
		case errors.As(err, &opening):
			return err
		case noSuchLock(err):
			return &fs.PathError{Op: "lock", Path: file.Path(), Err: fmt.Errorf(
				"the file system cannot lock; use a directory on a local disk: %w: %w", errors.ErrUnsupported, err)}
		default:
			return &fs.PathError{Op: "lock", Path: file.Path(), Err: err}
		}
	}
}

// probe asks whether a lock is free, by holding it shared until the returned
// function is called. errWouldBlock means that it is not. A lock file that is
// not there is not created.
func (d Dir) probe(name string) (done func() error, err error) {
	path := d.path(name, lockSuffix)
	file := flock.New(path, flock.SetFlag(os.O_RDONLY|safeOpen))
	err = kernelLock(file, (*flock.Flock).TryRLock)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() error { return nil }, d.mayBeMissing()
	case errors.Is(err, errWouldBlock):
		return nil, err
	case err != nil:
		if info, lerr := os.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			err = notLockFile(path, info.Mode())
		}
		return nil, err
	}
	if info, err := file.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, errors.Join(notLockFile(path, info.Mode()), unlock(file))
	}
	return func() error { return unlock(file) }, nil
}

// holder says who holds a lock that the kernel refused.
func (d Dir) holder(name string, o *options) Holder {
	if l := held.find(name, d.path(name, lockSuffix)); l != nil {
		record := l.Record()
		return Holder{StandingSelf, &record, "this process took it"}
	}
	found, err := readContent(d.path(name, recordSuffix))
	switch {
	case err != nil:
		return Holder{StandingUnknown, nil, "its record cannot be read: " + err.Error()}
	case found.info == nil:
		return Holder{StandingUnknown, nil, "it left no record"}
	case found.record == nil:
		return Holder{StandingUnknown, nil, "what stands in place of its record is none"}
	case !found.ours():
		if v := judge(found, o.looksLikeGateway); v.live {
			return v.holder(found.record)
		}
		return Holder{StandingUnknown, found.record, "the record is an old gateway's that ended"}
	}
	return verify(found.record)
}

// verify says how far a record of flocklock's own can be believed.
func verify(r *Record) Holder {
	if reason, where := r.elsewhere(); where != here {
		return Holder{StandingElsewhere, r, fmt.Sprintf("PID %d is not checked: %s", r.PID, reason)}
	}
	f := examine(r.PID)
	pid := fmt.Sprintf("PID %d", r.PID)
	switch {
	case !f.alive:
		return Holder{StandingUnknown, r, "the record is that of " + pid + ", which has ended"}
	case r.StartTime == nil || f.start == nil:
		return Holder{StandingUnknown, r, "the record is that of " + pid + ", of which the system does not tell since when it runs"}
	}
	if equal, _ := startsEqual(*r.StartTime, f); !equal {
		return Holder{StandingUnknown, r, "the record is that of a process that has ended; " + pid + " is another by now"}
	}
	if f.stopped {
		return Holder{StandingStopped, r, pid + " is stopped"}
	}
	return Holder{StandingVerified, r, pid + " runs since the time that the record says"}
}

// holder is the Holder that a verdict on a living old gateway amounts to.
func (v verdict) holder(r *Record) Holder {
	if v.elsewhere {
		return Holder{StandingElsewhere, r, v.reason}
	}
	return Holder{StandingLegacy, r, v.reason}
}

// State says whether a lock can be had.
type State string

const (
	Free State = "free"
	Held State = "held" // by a process, or by an old gateway
)

// A Status is what [Dir.Inspect] saw of one lock.
type Status struct {
	Name         string // of its files, without the suffix
	Scope        string
	IdentityHash string
	State        State
	Holder       Holder  // the zero Holder where State is Free
	Record       *Record // what stands at the record's path; nil: none

	// Leftover says that the lock is free and that something was left at the
	// record's path, for the reason in Left. The next acquire replaces it, unless
	// it is a directory.
	Leftover bool
	Left     string

	immovable bool // a directory
}

// String says the status in a sentence.
func (s Status) String() string {
	switch {
	case s.State == Held:
		return s.Scope + " is " + s.Holder.String()
	case s.Leftover && s.immovable:
		return s.Scope + " is free, but nobody can see who takes it: at the record's path stands " + s.Left + ". Find out who made it, and move it away."
	case s.Leftover:
		return s.Scope + " is free. What stands at the record's path was left there (" + s.Left + "); the next acquire replaces it."
	default:
		return s.Scope + " is free."
	}
}

// Inspect says whether a lock is held and by whom. It creates nothing; where
// the directory or the lock does not exist, the lock is free. To look, it holds
// the lock shared for a moment, which [Dir.TryAcquire] allows for.
//
// The answer may be out of date when it arrives: to have the lock, acquire it.
func (d Dir) Inspect(scope, identity string, opts ...Option) (Status, error) {
	name, err := d.lockName(scope, identity)
	if err != nil {
		return Status{}, err
	}
	return d.inspect(name, newOptions(opts))
}

func (d Dir) inspect(name string, o *options) (Status, error) {
	patience := time.Now().Add(writerPatience)
	for wait := time.Millisecond; ; wait *= 2 {
		s, unfinished, err := d.look(name, o)
		again := unfinished && time.Now().Before(patience) || s.Holder.unverified() && wait <= maxRefusalWait
		if err != nil || !again {
			return s, err
		}
		time.Sleep(min(wait, maxRefusalWait))
	}
}

// look inspects a lock once. unfinished says that an old gateway may be about
// to write its record.
func (d Dir) look(name string, o *options) (s Status, unfinished bool, err error) {
	scope, hash, _ := splitName(name)
	s = Status{Name: name, Scope: scope, IdentityHash: hash, State: Held}
	done, err := d.probe(name)
	if errors.Is(err, errWouldBlock) {
		s.Holder = d.holder(name, o)
		s.Record = s.Holder.Record
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	// No process holds it; but a legacy gateway may own the record's path.
	s.State = Free
	found, err := readContent(d.path(name, recordSuffix))
	if err != nil || found.info == nil {
		return s, false, errors.Join(err, done())
	}
	s.Record = found.record
	v := judge(found, o.looksLikeGateway)
	if v.live {
		s.State, s.Holder = Held, v.holder(found.record)
	} else {
		s.Leftover, s.Left, s.immovable = true, v.reason, found.info.IsDir()
	}
	return s, v.unfinished, done()
}

// List inspects every lock of the directory, in the order of names. Where one
// cannot be looked at, it is left out and the error joins the reasons. A
// directory that does not exist has no locks.
func (d Dir) List(opts ...Option) ([]Status, error) {
	entries, err := d.entries()
	if err != nil {
		return nil, err
	}
	o := newOptions(opts)
	var list []Status
	var errs []error
	seen := make(map[string]bool)
	for _, entry := range entries {
		name, ok := cutAny(entry.Name(), lockSuffix, recordSuffix)
		if _, _, named := splitName(name); !ok || !named || seen[name] {
			continue
		}
		seen[name] = true
		s, err := d.inspect(name, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, s)
	}
	return list, errors.Join(errs...)
}

// entries lists the directory; one that does not exist is empty.
func (d Dir) entries() ([]fs.DirEntry, error) {
	if d == "" {
		return nil, errNoDir
	}
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.mayBeMissing()
	}
	return entries, err
}

// mayBeMissing is an error where the directory is a file, of which Windows says
// that it does not exist.
func (d Dir) mayBeMissing() error {
	if info, err := os.Stat(string(d)); err == nil && !info.IsDir() {
		return &fs.PathError{Op: "open", Path: string(d), Err: errors.New("not a directory")}
	}
	return nil
}

var errNoDir = fmt.Errorf("flocklock: the directory is the empty string: %w", fs.ErrInvalid)

// lockName makes the name of a lock's files.
func (d Dir) lockName(scope, identity string) (string, error) {
	if d == "" {
		return "", errNoDir
	}
	if !isScope(scope) {
		// It is not repeated: it may be the identity, by mistake.
		return "", fmt.Errorf("flocklock: the scope is not [A-Za-z0-9][A-Za-z0-9._-]* of at most %d bytes: %w", maxScope, fs.ErrInvalid)
	}
	if identity == "" || !utf8.ValidString(identity) {
		return "", fmt.Errorf("flocklock: the identity of %s is empty or not valid UTF-8: %w", scope, fs.ErrInvalid)
	}
	sum := sha256.Sum256([]byte(identity))
	var hash [16]byte
	hex.Encode(hash[:], sum[:8])
	name := scope + "-" + string(hash[:])
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("flocklock: scope %s is a device name on this system: %w", scope, fs.ErrInvalid)
	}
	return name, nil
}

// splitName takes a name apart.
func splitName(name string) (scope, hash string, ok bool) {
	scope, hash, ok = cutLast(name, "-")
	if !ok || !isScope(scope) || len(hash) != 16 || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", "", false
	}
	return scope, hash, true
}

func isScope(s string) bool {
	if s == "" || len(s) > maxScope {
		return false
	}
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}
