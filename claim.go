// The record's path: what stands there, and how a finished record gets there
// without clobbering what an old gateway put there a moment ago.

package flocklock

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A mark tells a file from every other, and from itself before somebody wrote to
// it, unless that was as long and the file system's clock has not moved since. The
// zero mark is no file's.
type mark struct {
	volume, file  uint64
	size, written int64 // bytes; nanoseconds since 1970
}

func (m mark) none() bool { return m == mark{} }

// content is what stands at a record's path.
type content struct {
	info   fs.FileInfo // nil: nothing
	mark   mark        // zero where the system does not tell
	text   []byte
	record *Record  // nil: no record can be made of it
	argv   []string // of a legacy record, with its flags, which nobody is to see
	hash   string   // of the identity whose lock it is
	trust  trust
}

// trust says how a record came out of a file.
type trust int

const (
	broken   trust = iota // none came out
	salvaged              // a PID in a text that is no JSON
	barePID               // the file is a number
	whole
)

// ours reports whether flocklock wrote it.
func (c *content) ours() bool { return c.trust == whole && c.record.Format >= recordFormat }

// writtenAt is when the record was written: what it says, else what its file
// says, which may be another clock's time.
func (c *content) writtenAt() (at time.Time, ownWord bool) {
	if !c.record.UpdatedAt.IsZero() {
		return c.record.UpdatedAt, true
	}
	return c.info.ModTime(), false
}

// copyable is the text where it may be put into a file of ours, nil where it may
// not: another user's word must not become our own, see [request.attest].
func (c *content) copyable() []byte {
	if c.info == nil || !ownedByUs(c.info) {
		return nil
	}
	return c.text
}

// same reports whether two looks saw the same file with the same bytes in it. Its
// time counts too: an empty file may be a new one that got the number of another
// which is gone.
func (c *content) same(other *content) bool {
	return !c.mark.none() && c.mark == other.mark && bytes.Equal(c.text, other.text)
}

// standsAt reports whether what was judged stands at path. Nobody writes into a
// record of flocklock's, so that there its file tells enough.
func (c *content) standsAt(path string) bool {
	if c.ours() {
		return standsAt(path, c.mark)
	}
	found, err := readContent(path)
	return err == nil && found.same(c)
}

// readContent reads what stands at a record's path. That nothing stands there
// is no error; that it cannot be looked at is an *fs.PathError.
func readContent(path string) (*content, error) {
	file, err := openRecord(path)
	if err != nil {
		// A symlink or a socket cannot be opened, but seen.
		info, lerr := os.Lstat(path)
		switch {
		case errors.Is(lerr, fs.ErrNotExist):
			return &content{}, nil
		case lerr == nil && !info.Mode().IsRegular():
			m, _ := markOf(nil, info)
			return &content{info: info, mark: m}, nil
		}
		return nil, err
	}
	defer file.Close()
	c := &content{}
	if c.info, err = file.Stat(); err != nil {
		return nil, err
	}
	if c.mark, err = markOf(file, c.info); err != nil {
		return nil, err
	}
	if !c.info.Mode().IsRegular() {
		return c, nil
	}
	// What was written since the Stat is left for the next look.
	c.text = make([]byte, min(c.info.Size(), maxRecord))
	n, err := io.ReadFull(file, c.text)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	c.text = c.text[:n]
	c.parse()
	name, _ := recordName(filepath.Base(path))
	_, c.hash, _ = splitName(name)
	if c.record != nil {
		c.record.Argv = withoutIdentity(c.record.Argv, c.hash) // an old gateway may have been given it as a word
	}
	return c, nil
}

// readFinished reads a record and judges it; what is no record gets a while to
// become one. The while is counted for each file: one that has just taken the
// place of another may be about to be written, too.
func readFinished(path string, judge func(*content) verdict) (*content, verdict, error) {
	var waited *content
	var end time.Time
	for limit := time.Now().Add(10 * writerPatience); time.Now().Before(limit); time.Sleep(lookAgain) {
		found, err := readContent(path)
		if err != nil || found.info == nil {
			return found, verdict{}, err
		}
		v := judge(found)
		if waited == nil || !found.same(waited) {
			waited, end = found, time.Now().Add(writerPatience)
		}
		if !v.unfinished || time.Now().After(end) {
			return found, v, nil
		}
	}
	return nil, verdict{}, &fs.PathError{Op: "read", Path: path, Err: errKeepsChanging}
}

var errKeepsChanging = errors.New("the record keeps changing: too many old gateways start at once; try again")

// parse makes a record of the text, as far as one can be made. Half a record
// has the PID of an owner that may live, so that is looked for even there.
func (c *content) parse() {
	text := bytes.TrimSpace(trimBOM(c.text))
	var record Record
	if record.UnmarshalJSON(text) == nil { // json.Unmarshal would read it twice
		c.record, c.trust = &record, whole
		if !c.ours() {
			var flags struct{ Argv json.RawMessage }
			json.Unmarshal(text, &flags)
			c.argv = lenient[[]string](flags.Argv)
		}
		return
	}
	if pid, ok := parseInteger(text); ok && pid >= 1 && pid <= maxPID {
		c.record, c.trust = &Record{PID: int(pid)}, barePID
		return
	}
	if pid, ok := salvage(text, `"pid"`); ok && pid >= 1 && pid <= maxPID {
		c.record, c.trust = &Record{PID: int(pid)}, salvaged
		if start, ok := salvage(text, `"start_time"`); ok {
			c.record.StartTime = &start
		}
	}
}

// trimBOM removes a byte-order mark, as newer old gateways do and editors on
// Windows need.
func trimBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\uFEFF")) }

// salvage finds the integer behind a key in a text that is no JSON. A number
// that the text ends in may be cut short and does not count.
func salvage(text []byte, key string) (int64, bool) {
	_, rest, found := bytes.Cut(text, []byte(key))
	rest, colon := bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":"))
	rest = bytes.TrimLeft(rest, " \t\r\n")
	end := bytes.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if !found || !colon || end <= 0 || rest[end] == '.' || rest[end] == 'e' || rest[end] == 'E' {
		return 0, false
	}
	return parseInteger(rest[:end])
}

// ownedError says that a legacy gateway owns the record's path.
type ownedError struct {
	verdict verdict
	record  *Record
}

func (e *ownedError) Error() string { return e.verdict.reason }

// unjudgedError says that what stands at the record's path could not be
// judged, so that it may be a living gateway's.
type unjudgedError struct{ err error }

func (e *unjudgedError) Error() string {
	advice := "try again"
	if errors.Is(e.err, fs.ErrPermission) {
		advice = "run as a user that may read it"
	}
	return "flocklock: an old gateway may own the record, which cannot be judged; " + advice + ": " + e.err.Error()
}

func (e *unjudgedError) Unwrap() error { return e.err }

const (
	// claimAttempts bounds how often a claim starts again because old
	// gateways changed the path under it.
	claimAttempts = 64

	// writerPatience is how long a file that is no record, and was written to
	// less than writingAge ago, may take to become one: an old gateway creates
	// first and writes after.
	writerPatience = 300 * time.Millisecond
	writingAge     = 10 * time.Second

	// settleTime is how long a record that took a stale legacy record's place
	// is watched: an old gateway may have judged the same file stale, and
	// would remove ours in its place.
	settleTime = 100 * time.Millisecond

	lookAgain = 5 * time.Millisecond
)

// claim puts text at the record's path by the old gateways' protocol, in which
// who creates the file owns the lock. It must be called under the kernel lock.
//
// On success it returns the mark of the file that now stands there. An
// *ownedError means that a legacy gateway owns the path, an *unjudgedError that
// this could not be ruled out. Any other error means that no gateway owns the
// path, and that the record could not be written.
func claim(path string, text []byte, judge func(*content) verdict) (placed mark, err error) {
	tmp := sidePath(path, tmpSuffix)
	written, writeErr := writeBeside(tmp, path, text, judge)
	defer func() {
		if err != nil {
			removeOwn(tmp, path, written)
		}
	}()
	contested := false // an old gateway may be at work here
	for range claimAttempts {
		if writeErr == nil {
			placed, err = place(tmp, path, written, text)
			switch {
			case err == nil && (!contested || settled(path, placed)):
				return placed, nil
			case err == nil:
				written, writeErr = writeBeside(tmp, path, text, judge)
				continue
			case !errors.Is(err, fs.ErrExist):
				writeErr = err // and see whose the path is all the same
			}
		}
		found, verdict, err := readFinished(path, func(c *content) verdict {
			contested = contested || !c.ours()
			return judge(c)
		})
		if err != nil {
			return mark{}, &unjudgedError{err}
		}
		if found.info == nil && writeErr != nil {
			return mark{}, writeErr
		}
		if found.info == nil {
			continue
		}
		switch {
		case verdict.live:
			return mark{}, &ownedError{verdict, found.record}
		case found.info.IsDir():
			return mark{}, &fs.PathError{Op: "claim", Path: path,
				Err: errors.New("a directory stands where the record should; find out who made it and move it away")}
		case writeErr != nil:
			return mark{}, writeErr
		}
		placed, err = replace(tmp, path, written, text, found, judge)
		if err != nil {
			return mark{}, err
		}
		if !placed.none() && (!contested || settled(path, placed)) {
			return placed, nil
		}
		if !standsAt(tmp, written) {
			written, writeErr = writeBeside(tmp, path, text, judge)
		}
	}
	return mark{}, &unjudgedError{&fs.PathError{Op: "claim", Path: path, Err: errKeepsChanging}}
}

// missing reports whether it is known that nothing stands at path.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// settled reports whether a record stays where it was put for settleTime.
func settled(path string, placed mark) bool {
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(lookAgain) {
		if !standsAt(path, placed) {
			return false
		}
	}
	return standsAt(path, placed)
}

// standsAt reports whether the file at path is the one that was put there, and
// nobody wrote into it since.
func standsAt(path string, placed mark) bool {
	at, err := markAt(path)
	return err == nil && at == placed
}

// What stands beside a record: a new one that is not in its place yet, and, where
// two names cannot be exchanged, an old one that was moved aside. While one is
// aside that may own the lock, there is the other too, so that who comes after a
// crash need not look for it: to write his own record he must make way.
const (
	tmpSuffix   = ".tmp"
	asideSuffix = ".old"
)

// sidePath names a file beside a record. Only the holder of the kernel lock
// makes one, so that one name a record is enough and the next holder cleans up
// after a crash. Old gateways do not look at names that begin with a dot.
func sidePath(path, suffix string) string {
	dir, base := filepath.Split(path)
	return dir + "." + strings.TrimSuffix(base, recordSuffix) + suffix
}

// writeBeside writes a new file beside the record at path, in place of one that
// a crash left there. That may be a living gateway's record, whatever else keeps
// the file from being written.
func writeBeside(tmp, path string, text []byte, judge func(*content) verdict) (mark, error) {
	written, err := writeNew(tmp, text)
	inTheWay := errors.Is(err, fs.ErrExist)
	if err == nil || !inTheWay && missing(tmp) {
		return written, err
	}
	if err := makeAllWay(tmp, path, judge); err != nil {
		return mark{}, err
	}
	if !inTheWay {
		return mark{}, err
	}
	return writeNew(tmp, text)
}

// removeOwn removes a file that writeBeside wrote, unless it has another name by
// now, or has to tell that there is something aside.
func removeOwn(tmp, path string, written mark) {
	if !written.none() && standsAt(tmp, written) && missing(sidePath(path, asideSuffix)) {
		os.Remove(tmp)
	}
}

// makeAllWay removes all that a crash left beside the record at path, as makeWay
// does: what is aside first, because the other tells of it.
func makeAllWay(tmp, path string, judge func(*content) verdict) error {
	if err := makeWay(sidePath(path, asideSuffix), path, judge); mayBeOwned(err) {
		return err // any other is of a file that owns nothing, and only in the way
	}
	return makeWay(tmp, path, judge)
}

// makeWay removes what a crash left beside the record at path. Where that is a
// living gateway's record, which the crash kept from going back, it goes back. An
// *ownedError means that it stays, for it is one and another gateway's stands at
// the path; an *unjudgedError that it may be one.
func makeWay(side, path string, judge func(*content) verdict) error {
	left, _, err := readFinished(side, judge)
	if errors.Is(err, fs.ErrPermission) {
		return remove(side) // root's; another's record is not secret
	}
	if err != nil {
		return &unjudgedError{err}
	}
	if left.info == nil || !left.living(judge) {
		return remove(side)
	}
	_, err = place(side, path, left.mark, left.copyable())
	if errors.Is(err, fs.ErrExist) {
		return restore(side, path, left, judge)
	}
	if err != nil {
		return &unjudgedError{err}
	}
	return nil
}

// restore puts a living gateway's record back over what stands at its path, but
// not over that of another, which may be just about to be written. Where the path
// has one of the same gateway, that counts.
func restore(side, path string, left *content, judge func(*content) verdict) error {
	found, err := readContent(path)
	if err == nil && found.info != nil && !found.ours() {
		v := judge(found)
		if v.live && found.record != nil && found.record.PID == left.record.PID {
			return remove(side)
		}
		if v.live || v.unfinished {
			return &ownedError{judge(left), left.record}
		}
	}
	if err == nil {
		err = whileInUse(func() error { return os.Rename(side, path) })
	}
	if err != nil {
		return &unjudgedError{err}
	}
	return nil
}

// mayBeOwned reports whether an error says that a legacy gateway owns the path,
// or may own it.
func mayBeOwned(err error) bool {
	var owned *ownedError
	var unjudged *unjudgedError
	return errors.As(err, &owned) || errors.As(err, &unjudged)
}

// living reports whether it is the record of an old gateway that lives.
func (c *content) living(judge func(*content) verdict) bool {
	return c.record != nil && !c.ours() && judge(c).live
}

// place gives a finished file its name, and fails with fs.ErrExist where
// something has that name. It returns the mark of the file that stands there then:
// a copy where nothing better is to be had and the text is known.
func place(tmp, path string, written mark, text []byte) (mark, error) {
	err := whileInUse(func() error { return renameNoReplace(tmp, path) })
	if err == nil || !noSuchCall(err) {
		return written, err
	}
	if err = os.Link(tmp, path); err == nil {
		return written, os.Remove(tmp)
	}
	if !noSuchCall(err) || text == nil {
		return mark{}, err
	}
	if written, err = writeNew(path, text); err != nil {
		return mark{}, err
	}
	return written, os.Remove(tmp)
}

// replace puts a finished file in the place of what was judged, and of nothing
// else: where another file stands there by now it returns the zero mark, and that
// file stays.
func replace(tmp, path string, written mark, text []byte, judged *content, judge func(*content) verdict) (mark, error) {
	err := exchange(tmp, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return mark{}, nil
	case err != nil && noSuchCall(err):
		return replaceAside(tmp, path, written, text, judged, judge)
	case err != nil:
		return mark{}, err
	}
	if judged.standsAt(tmp) {
		return written, remove(tmp)
	}
	if err = exchange(tmp, path); errors.Is(err, fs.ErrNotExist) {
		err = renameNoReplace(tmp, path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return mark{}, &unjudgedError{err} // a gateway's record is not where it was
	}
	return mark{}, nil
}

// replaceAside does what replace does where two names cannot be exchanged. For
// a moment nothing stands at the path; an old gateway that takes it then is
// found there by the next look, and judged.
func replaceAside(tmp, path string, written mark, text []byte, judged *content, judge func(*content) verdict) (mark, error) {
	aside := sidePath(path, asideSuffix)
	err := moveAside(path, aside, judge)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	out, err := readContent(aside)
	if err == nil && out.same(judged) {
		// Before our own is placed, which takes with it what tells of something aside.
		// Where it cannot be removed it stays: it is stale.
		remove(aside)
		placed, err := place(tmp, path, written, text)
		if errors.Is(err, fs.ErrExist) {
			return mark{}, nil
		}
		return placed, err
	}
	return mark{}, putBack(aside, path, out, judge)
}

// moveAside moves what stands at path aside. It does not do that over a living
// gateway's record, which a crash kept from going back and which owns the lock
// from there: then the error is an *ownedError.
func moveAside(path, aside string, judge func(*content) verdict) error {
	left, err := readContent(aside)
	if err != nil {
		return err
	}
	if left.living(judge) {
		return &ownedError{judge(left), left.record}
	}
	return whileInUse(func() error { return os.Rename(path, aside) })
}

// putBack undoes moving a record aside. A later gateway may have taken the path
// from that record's by then. out is nil where the record could not be read.
func putBack(aside, path string, out *content, judge func(*content) verdict) error {
	if out == nil {
		out = &content{}
	}
	_, err := place(aside, path, out.mark, out.copyable())
	if errors.Is(err, fs.ErrExist) {
		return makeWay(aside, path, judge)
	}
	if err != nil {
		return &unjudgedError{err}
	}
	return nil
}

// whileInUse tries again, for a short while, what failed only because somebody
// reads the file. Windows has such failures.
func whileInUse(do func() error) error {
	err := do()
	if err == nil || !inUse(err) {
		return err
	}
	for end := time.Now().Add(800 * time.Millisecond); inUse(err) && time.Now().Before(end); err = do() {
		time.Sleep(lookAgain)
	}
	return err
}

// remove removes a file; that it is gone already is no error.
func remove(path string) error {
	err := whileInUse(func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeRecord removes the record that claim put at its path, and no other.
func removeRecord(path string, placed mark, id string) error {
	if placed.none() {
		return nil
	}
	if !standsAt(path, placed) {
		found, err := readContent(path) // it may have been touched or copied
		if err != nil || found.record == nil || found.record.ID != id {
			return nil
		}
	}
	return remove(path)
}
