// Taking a lock over: ending the process that holds it, and no other.

package flocklock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ErrNotTakenOver is what errors.Is finds in the error of a take-over that ends
// nobody, because it cannot be sure of the holder or must not end it.
var ErrNotTakenOver = errors.New("flocklock: not taken over")

const (
	// defaultGrace is the old gateways'.
	defaultGrace = 10 * time.Second

	// killWait is how long the kernel may take to drop the lock of a process
	// that was killed.
	killWait = 5 * time.Second

	// lastWait is for a holder that has gone when the grace is over.
	lastWait = 100 * time.Millisecond

	// takeOverPeace is how long a lock that was taken over is left alone, else
	// two supervised gateways would end each other for ever.
	takeOverPeace = time.Minute
)

// TakeOverOptions say how [Dir.TakeOver] works.
type TakeOverOptions struct {
	// Grace is how long the holder may take to end by itself once it was asked
	// to; then it is killed. 0 stands for ten seconds.
	Grace time.Duration

	// Force takes over even a lock that was itself taken over less than a minute
	// ago.
	Force bool
}

// TakeOver takes the lock of a scope and an identity from the process that holds
// it: it asks that process to end, waits for the kernel's lock, and kills the
// process after the grace. A lock that nobody holds it simply takes.
//
// Only a process that is known for certain is ended: one of the same user, on
// this host and in this PID namespace, that began when its record says, whether
// it runs or is stopped, and that is one of [Dir.Holders], where the system tells
// those; or an old gateway, which is none, of which the rest is true. The record
// must be of this lock and, but on Windows, its file of this user or of root, so
// that nobody else can name a process. The process is held by a handle before its
// start is compared, so that no other can be hit that gets its PID meanwhile, and
// it is killed only if it holds the lock still. With it are killed those that
// hold the lock too, for they have inherited it: the command of flocklock run,
// say. In every other case nobody is ended, and the error is [ErrNotTakenOver]
// and [ErrHeld]; so it is when the lock was itself taken over less than a minute
// ago, unless TakeOverOptions.Force is set.
//
// On success it is as [Dir.TryAcquire], and the record says whom the lock was
// taken from. When another process gets the lock first, that one is spared, and
// the error is [ErrNotTakenOver] and [ErrHeld] too. When ctx ends, the error is
// that of [Dir.Acquire], and the holder may have been asked to end. ctx ends the
// waiting alone: where the system does not answer who holds the lock, as with a
// network file system whose server is gone, the call lasts as long as that.
//
// # Linux
//
// The handle is a pidfd; the holder is asked by SIGTERM, with SIGCONT, and ended
// by SIGKILL. Before Linux 5.3 there is no handle, and nobody is ended.
//
// # macOS
//
// kqueue(2) tells whether the process has ended up to the moment of the signal.
// Those who inherited the lock are not known there, and are not ended.
//
// # Windows
//
// The holder cannot be asked: a console event may reach other processes of the
// console. It is ended at once by TerminateProcess.
func (d Dir) TakeOver(ctx context.Context, scope, identity string, o TakeOverOptions, opts ...Option) (*Lock, error) {
	r, err := d.request(scope, identity, opts)
	if err != nil {
		return nil, err
	}
	return r.takeOver(ctx, o)
}

// EndHolder ends the process that holds the lock of a name, a [Status.Name], as
// [Dir.TakeOver] does, and leaves the lock free. Where nobody holds the lock it
// removes what was left of one, as [Dir.Clear] does.
func (d Dir) EndHolder(ctx context.Context, name string, o TakeOverOptions, opts ...Option) error {
	r, err := d.requestOf(name, opts)
	if err != nil {
		return err
	}
	lock, err := r.takeOver(ctx, o)
	if err != nil {
		return err
	}
	recordErr := lock.RecordErr() // then what was left stands where it was
	return errors.Join(lock.Release(), recordErr)
}

// Clear removes what was left of the lock of a name, a [Status.Name], that nobody
// holds: the record of a process that ended, an old gateway's record that is
// judged stale, what a crash left beside one. Where there is nothing it creates
// nothing. The error is [ErrHeld] where the lock is held, and then nothing was
// removed; an *fs.PathError where something stays that nobody owns, with the
// reason.
func (d Dir) Clear(name string, opts ...Option) error {
	r, err := d.requestOf(name, opts)
	if err != nil {
		return err
	}
	for wait := time.Millisecond; ; wait *= 2 { // a prober may have the lock for a moment
		err := r.clear()
		if !errors.Is(err, errWouldBlock) || wait > maxRefusalWait {
			return err
		}
		time.Sleep(wait)
	}
}

func (r request) clear() error {
	o := MigrateOptions{LooksLikeGateway: r.options.looksLikeGateway}
	for _, file := range []string{"." + r.name + asideSuffix, "." + r.name + tmpSuffix, r.name + recordSuffix} {
		path := filepath.Join(string(r.dir), file)
		if missing(path) {
			continue
		}
		m, err := r.dir.migrateFile(file, o)
		if err != nil {
			return err
		}
		if m.Action == Removed {
			r.options.event(slog.LevelInfo, EventRecord, "removed what was left of a lock", r.scope, path, "reason", m.Reason)
			continue
		}
		if err := r.mustBeFree(); err != nil {
			return err
		}
		if m.Action == SkippedHeld {
			return &fs.PathError{Op: "clear", Path: path, Err: errWouldBlock}
		}
		if !missing(path) {
			return &fs.PathError{Op: "clear", Path: path, Err: errors.New(m.Reason)}
		}
	}
	return r.mustBeFree()
}

// mustBeFree is an error where the lock is held.
func (r request) mustBeFree() error {
	s, err := r.dir.inspect(r.name, r.options)
	if err == nil && s.State == Held {
		err = &HeldError{r.scope, s.Holder}
	}
	return err
}

// takeOver takes the lock, and ends who holds it.
func (r request) takeOver(ctx context.Context, o TakeOverOptions) (*Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("flocklock: %s: %w", r.scope, err)
	}
	lock, err := r.try()
	var refused *HeldError
	if !errors.As(err, &refused) {
		return lock, err
	}
	held, err := r.seize(refused.Holder, o)
	if err != nil {
		return nil, fmt.Errorf("%w (%w: %w)", refused, ErrNotTakenOver, err)
	}
	defer held.close()

	options := *r.options
	options.takenOverFrom = refused.Holder.Record.PID
	r.options = &options
	lock, err = r.end(ctx, held, graceOf(o))
	switch {
	case err == nil:
		lock.tell(slog.LevelInfo, EventTakenOver, "took a lock over from a holder that was ended", "pid", options.takenOverFrom)
		return lock, nil
	case errors.Is(err, errNotEnded) && ctx.Err() == nil:
		return nil, fmt.Errorf("%w (%w: %w)", &HeldError{r.scope, r.dir.holder(r.name, r.options)}, ErrNotTakenOver, err)
	default:
		return nil, err
	}
}

// errNotEnded is what makes a take-over fail when it has begun to end a holder.
var errNotEnded = errors.New("the holder is not ended")

// end asks the holder to end, kills it after the grace, and takes the lock.
func (r request) end(ctx context.Context, s *seized, grace time.Duration) (*Lock, error) {
	pid := s.record.PID
	r.options.event(slog.LevelWarn, EventEnding, "ending the holder of a lock to take it over",
		r.scope, r.path, "pid", pid)
	switch err := s.owner().ask(); {
	case err == nil:
		lock, err := r.waitFor(ctx, grace)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return lock, err
		}
	case !errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("%w: PID %d could not be asked to end: %w", errNotEnded, pid, err)
	}
	if err := r.kill(s); err != nil {
		// It may have ended at the last moment.
		if lock, werr := r.waitFor(ctx, lastWait); werr == nil || ctx.Err() != nil {
			return lock, werr
		}
		return nil, fmt.Errorf("%w: %w", errNotEnded, err)
	}
	lock, err := r.waitFor(ctx, killWait)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: PID %d was killed, but the lock is not free; another may have inherited it, or have got it first", errNotEnded, pid)
	}
	return lock, err
}

func graceOf(o TakeOverOptions) time.Duration {
	if o.Grace > 0 {
		return o.Grace
	}
	return defaultGrace
}

// waitFor acquires the lock within a time.
func (r request) waitFor(ctx context.Context, d time.Duration) (*Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return r.wait(ctx)
}

// seized is the process that a record names, and those that hold the lock with
// it by the open file that they inherited.
type seized struct {
	record  *Record
	handles map[int]handle // by PID
}

func (s *seized) owner() handle { return s.handles[s.record.PID] }

// add takes a handle of a process that holds the lock.
func (s *seized) add(p Process) error {
	if _, known := s.handles[p.PID]; known {
		return nil
	}
	process := openHandle(p.PID)
	if p.PID == 0 || !process.open {
		process.close()
		return fmt.Errorf("%s holds it too, and cannot be ended from here", p)
	}
	s.handles[p.PID] = process
	return sameUser(p.PID)
}

// hold reports whether one of those found is one of s that still lives.
func (s *seized) hold(found []Process) bool {
	return slices.ContainsFunc(found, func(p Process) bool {
		process, known := s.handles[p.PID]
		return known && !process.ended(0)
	})
}

func (s *seized) close() {
	for _, process := range s.handles {
		process.close()
	}
}

// seize returns a handle of the process that holds a lock, and of those that
// hold it with it, if the former is known for certain and may be ended. The
// error says why it is not.
func (r request) seize(h Holder, o TakeOverOptions) (*seized, error) {
	switch h.Standing {
	case StandingVerified, StandingStopped, StandingLegacy:
	case StandingSelf:
		return nil, errors.New("this process holds it")
	case StandingElsewhere:
		return nil, errors.New("who holds it cannot be reached from here; end it where it runs")
	default:
		return nil, r.unnamed()
	}
	record := h.Record
	if record == nil || record.StartTime == nil {
		return nil, errors.New("the record does not say when its process began, so that the PID may be another's; end it yourself if you are sure")
	}
	if record.PID == os.Getpid() {
		return nil, errors.New("the record has this process's own PID")
	}
	if since := time.Since(record.TakenOverAt); !o.Force && since >= 0 && since < takeOverPeace {
		return nil, fmt.Errorf("it was itself taken over %s ago, from PID %d; two gateways that take over from each other would go on for ever: "+
			"stop one of them", since.Round(time.Second), record.TakenOverFrom)
	}
	owner := openHandle(record.PID)
	if !owner.open {
		return nil, fmt.Errorf("this system gives no handle of PID %d: %w", record.PID, errors.ErrUnsupported)
	}
	s := &seized{record, map[int]handle{record.PID: owner}}
	// Only now, for the handle may be that of another which got the PID.
	err := identify(record)
	if err == nil {
		err = r.attest(s)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// unnamed is the error where no record names who holds the lock.
func (r request) unnamed() error {
	found, _ := r.dir.Holders(r.name)
	if len(found) == 0 {
		return errors.New("it is not known who holds it; find the process that has the lock file open, and end that")
	}
	var names []string
	for _, p := range found {
		names = append(names, p.String())
	}
	return fmt.Errorf("by its record it is not known who holds it; the system names %s: end that, if it is right", strings.Join(names, ", "))
}

// attest reports whether the record that names a process is this lock's, and
// this user's own word. Else who can write to the directory could have us end a
// process of ours that holds nothing. It adds who else holds the lock.
func (r request) attest(s *seized) error {
	found, err := readContent(r.recordPath)
	if err != nil {
		return err
	}
	now, record := found.record, s.record
	if now == nil || now.PID != record.PID || now.StartTime == nil || *now.StartTime != *record.StartTime {
		return errors.New("its record has changed meanwhile")
	}
	if !ownedByUs(found.info) && !ownedByRoot(found.info) {
		return fmt.Errorf("the file of its record is another user's: %w", fs.ErrPermission)
	}
	scope, hash, _ := splitName(r.name)
	if now.Scope != "" && now.Scope != scope || now.IdentityHash != "" && now.IdentityHash != hash {
		return errors.New("what stands at its record's path is the record of another lock")
	}
	if found.ours() { // an old gateway has no kernel lock
		return r.mustHold(s)
	}
	return nil
}

// mustHold reports, where the system tells, whether a process holds the kernel's
// lock. Its record may be an old one that was left, or put back.
func (r request) mustHold(s *seized) error {
	found, err := r.dir.Holders(r.name)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if !slices.ContainsFunc(found, func(p Process) bool { return p.PID == s.record.PID }) {
		if err == nil {
			err = errors.New("it has given it up")
		}
		return fmt.Errorf("PID %d is not seen to hold the lock: %w", s.record.PID, err)
	}
	for _, p := range found {
		if err := s.add(p); err != nil {
			return err
		}
	}
	return nil
}

// kill kills all that hold the lock, if one of s does still: a lock is exclusive,
// so that the others have it from that one. Where the system does not tell who
// holds it, as with an old gateway, the record must be what it was.
func (r request) kill(s *seized) error {
	found, err := r.dir.Holders(r.name)
	switch {
	case s.record.Format < recordFormat || errors.Is(err, errors.ErrUnsupported):
		if err := r.attest(s); err != nil {
			return err
		}
		return s.killed(s.record.PID)
	case len(found) == 0:
		return err // nil: it is free by now
	}
	mine := s.hold(found)
	for _, p := range found {
		if err := s.add(p); err != nil {
			return err
		}
	}
	// Again, for a PID may have gone to another before its handle was there.
	if found, err = r.dir.Holders(r.name); !mine || !s.hold(found) {
		return errors.Join(errors.New("another process holds the lock by now"), err)
	}
	for _, p := range found {
		if _, known := s.handles[p.PID]; !known {
			continue // forked this moment; it keeps the lock, and the caller is told so
		}
		if err := s.killed(p.PID); err != nil {
			return err
		}
	}
	return nil
}

func (s *seized) killed(pid int) error {
	if err := s.handles[pid].kill(); err != nil {
		return fmt.Errorf("PID %d could not be killed: %w", pid, err)
	}
	return nil
}

// identify reports whether the process that has the record's PID now is the one
// that the record means, and of the same user as this one.
func identify(r *Record) error {
	f := examine(r.PID)
	if !f.alive || f.start == nil {
		return fmt.Errorf("PID %d has ended, or cannot be looked at", r.PID)
	}
	// Elsewhere than on Linux a start is a time of the clock, and what will do to
	// spare a process will not do to end one.
	equal, _ := startsEqual(*r.StartTime, f)
	if diff := *r.StartTime - *f.start; !equal || runtime.GOOS != "linux" && (diff < -1 || diff > 1) {
		return fmt.Errorf("PID %d is another process by now", r.PID)
	}
	return sameUser(r.PID)
}

// sameUser is an error where a process acts for another user than this one.
func sameUser(pid int) error {
	mine, err := userOf(os.Getpid())
	if err != nil {
		return err
	}
	theirs, err := userOf(pid)
	if err != nil {
		return err
	}
	if mine != theirs {
		return fmt.Errorf("PID %d is another user's process: %w", pid, fs.ErrPermission)
	}
	return nil
}
