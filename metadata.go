// The record: its JSON, the old gateways' message made of it, and the Holder
// with its sentences.

package flocklock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// kindGateway is the old gateways' constant; they look for it.
	kindGateway = "hermes-gateway"

	// recordFormat marks a record as flocklock's own.
	recordFormat = 2

	// maxRecord bounds what is read of a record, and what is written.
	maxRecord = 64 << 10
)

// A Record says who took a lock, for people to read. Between flocklock
// processes it decides nothing.
//
// Its JSON is a superset of the old gateways' lockfile: PID to UpdatedAt have
// the old keys with the old meaning, HermesHome and Profile those of newer old
// gateways, and the rest is new. Decoding takes whatever it finds: a key of
// the wrong type counts as missing, and only what is no JSON object at all is
// an error.
type Record struct {
	// PID of the owner in the owner's PID namespace; 0 where the record has
	// none in 1 to 2³¹-1.
	PID int

	Kind string // "hermes-gateway"

	// Argv is the program and the words before its first flag. Flags and what
	// follows them may hold secrets and are not written.
	Argv []string

	// StartTime says when the owner's process began: on Linux in clock ticks
	// (10 ms) since boot, elsewhere in centiseconds since 1970. nil where the
	// record does not say; flocklock leaves it out only where the system does
	// not tell, as Linux without /proc.
	StartTime *int64

	Scope        string
	IdentityHash string         // the first 16 hex digits of the identity's SHA-256
	Metadata     map[string]any // the caller's
	UpdatedAt    time.Time
	HermesHome   string
	Profile      string

	Format       int    // 2; 0 marks a legacy record
	ID           string // random, one an acquisition
	AcquiredAt   time.Time
	Host         string
	BootID       string // "" where the system has none
	PIDNamespace string // "" where the system has none

	TakenOverFrom int       // the PID that a take-over ended; 0: none
	TakenOverAt   time.Time // when that was
}

// MarshalJSON writes the record with the old gateways' keys first.
func (r Record) MarshalJSON() ([]byte, error) {
	metadata, err := encodeMetadata(r.Metadata)
	if err != nil {
		return nil, err
	}
	return r.encode(metadata), nil
}

func encodeMetadata(metadata map[string]any) ([]byte, error) {
	if len(metadata) == 0 {
		return []byte("{}"), nil
	}
	return json.Marshal(metadata)
}

// encode writes the record as json.Marshal would write a struct of these keys in
// the old order, in a fourth of the time: it is part of every acquire. The
// metadata is encoded already.
func (r *Record) encode(metadata []byte) []byte {
	b := make([]byte, 0, 640+len(metadata))
	b = strconv.AppendInt(append(b, `{"pid":`...), int64(r.PID), 10)
	b = appendString(append(b, `,"kind":`...), r.Kind)
	b = append(b, `,"argv":[`...)
	for i, word := range r.Argv {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, word)
	}
	b = append(b, `],"start_time":`...)
	if r.StartTime == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *r.StartTime, 10)
	}
	b = appendString(append(b, `,"scope":`...), r.Scope)
	b = appendString(append(b, `,"identity_hash":`...), r.IdentityHash)
	b = append(append(b, `,"metadata":`...), metadata...)
	b = append(b, `,"updated_at":`...)
	began := len(b)
	b = appendTime(b, r.UpdatedAt)
	updated := b[began:]
	b = appendNonempty(b, "hermes_home", r.HermesHome)
	b = appendNonempty(b, "profile", r.Profile)
	if r.Format != 0 {
		b = strconv.AppendInt(append(b, `,"format":`...), int64(r.Format), 10)
	}
	b = appendNonempty(b, "id", r.ID)
	switch {
	case r.AcquiredAt.IsZero():
	case r.AcquiredAt.Equal(r.UpdatedAt): // as in the record of every acquire
		b = append(append(b, `,"acquired_at":`...), updated...)
	default:
		b = appendTime(append(b, `,"acquired_at":`...), r.AcquiredAt)
	}
	b = appendNonempty(b, "host", r.Host)
	b = appendNonempty(b, "boot_id", r.BootID)
	b = appendNonempty(b, "pid_ns", r.PIDNamespace)
	if r.TakenOverFrom != 0 {
		b = strconv.AppendInt(append(b, `,"taken_over_from":`...), int64(r.TakenOverFrom), 10)
	}
	if !r.TakenOverAt.IsZero() {
		b = appendTime(append(b, `,"taken_over_at":`...), r.TakenOverAt)
	}
	return append(b, '}')
}

func appendNonempty(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(append(append(b, `,"`...), key...), `":`...), value)
}

// appendString appends a JSON string. encoding/json is asked only where one byte
// may need an escape.
func appendString(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0x7f {
			text, err := json.Marshal(s)
			if err != nil { // a string can always be encoded
				text = []byte(`""`)
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// UnmarshalJSON reads a record of any version. Keys match exactly, as they do
// in Python.
func (r *Record) UnmarshalJSON(text []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return err
	}
	if keys == nil {
		return errors.New("flocklock: null is not a record")
	}
	*r = Record{
		Kind:         lenientString(keys["kind"]),
		Argv:         withoutFlags(lenient[[]string](keys["argv"])),
		Scope:        lenientString(keys["scope"]),
		IdentityHash: lenientString(keys["identity_hash"]),
		Metadata:     lenient[map[string]any](keys["metadata"]),
		UpdatedAt:    parseTime(lenientString(keys["updated_at"])),
		HermesHome:   lenientString(keys["hermes_home"]),
		Profile:      lenientString(keys["profile"]),
		ID:           lenientString(keys["id"]),
		AcquiredAt:   parseTime(lenientString(keys["acquired_at"])),
		Host:         lenientString(keys["host"]),
		BootID:       lenientString(keys["boot_id"]),
		PIDNamespace: lenientString(keys["pid_ns"]),
		TakenOverAt:  parseTime(lenientString(keys["taken_over_at"])),
	}
	if r.PIDNamespace == "" {
		// What a change to the old gateways, not merged yet, would write.
		// It may say "unresolved", which names none.
		if ns := lenientString(keys["pidns"]); strings.Trim(ns, "0123456789") == "" {
			r.PIDNamespace = ns
		}
	}
	if format, ok := parseInteger(keys["format"]); ok {
		r.Format = int(format)
	}
	if pid, ok := parseInteger(keys["pid"]); ok && pid >= 1 && pid <= maxPID {
		r.PID = int(pid)
	}
	if pid, ok := parseInteger(keys["taken_over_from"]); ok && pid >= 1 && pid <= maxPID {
		r.TakenOverFrom = int(pid)
	}
	if start, ok := parseInteger(keys["start_time"]); ok {
		r.StartTime = &start
	}
	return nil
}

const maxPID = 1<<31 - 1

// lenient decodes a value, or gives the zero value for one of another type.
func lenient[T any](text json.RawMessage) T {
	var v T
	if len(text) == 0 || json.Unmarshal(text, &v) != nil {
		var zero T
		return zero
	}
	return v
}

// lenientString is lenient for a string. The text is known to be JSON, so
// that one without an escape and without a byte that may be no UTF-8 is what
// stands between its quotes.
func lenientString(text json.RawMessage) string {
	if len(text) < 2 || text[0] != '"' {
		return ""
	}
	for _, c := range text[1 : len(text)-1] {
		if c == '\\' || c >= utf8.RuneSelf {
			return lenient[string](text)
		}
	}
	return string(text[1 : len(text)-1])
}

// parseInteger reads a JSON number that Python would read as an int: no
// fraction and no exponent.
func parseInteger(text []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil && text[0] != '+'
}

// appendTime appends a time as Python's datetime.isoformat writes it, "" for the
// zero time. Python before 3.11 does not read a "Z".
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, `""`...)
	}
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000000-07:00"`)
}

// parseTime reads what appendTime or Python wrote; a time without a zone is UTC.
func parseTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}

// InUse says in the old gateways' words, to the letter, that what description
// names, a "Telegram bot token" say, is in use by the owner of this record. A
// nil record is an owner that is not known.
func (r *Record) InUse(description string) string {
	switch profile := r.ProfileName(); {
	case r == nil || r.PID == 0:
		return description + " already in use. Stop the other gateway first."
	case profile != "":
		return fmt.Sprintf("%s already in use by the '%s' profile gateway (PID %d). "+
			"Stop that gateway first (hermes --profile %s gateway stop).", description, profile, r.PID, profile)
	default:
		return fmt.Sprintf("%s already in use (PID %d). Stop the other gateway first.", description, r.PID)
	}
}

// pid is the PID of a record, 0 where there is none.
func (r *Record) pid() int {
	if r == nil {
		return 0
	}
	return r.PID
}

// ProfileName is the profile that the record names, or that its home directory
// is one of: hermes_home of an older gateway may say what profile does not. It is
// "" where neither does, and for a nil record.
func (r *Record) ProfileName() string {
	if r == nil {
		return ""
	}
	if isProfile(r.Profile) {
		return r.Profile
	}
	home := strings.TrimRight(strings.ReplaceAll(r.HermesHome, `\`, "/"), "/")
	if root, name, ok := cutLast(home, "/"); ok && isProfile(name) && strings.HasSuffix(root, "/profiles") {
		return name
	}
	return ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// isProfile reports whether s is [a-z0-9][a-z0-9_-]{0,63}.
func isProfile(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '_' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// Standing says how far the holder of a lock is known.
type Standing string

const (
	// StandingVerified is a process that lives and began when its record says.
	StandingVerified Standing = "verified"

	// StandingStopped is a verified process that is stopped (Ctrl-Z, SIGSTOP,
	// a debugger). It wakes up one day, so it holds.
	StandingStopped Standing = "stopped"

	// StandingElsewhere is a process in another PID namespace, on another host
	// or of another boot, where its PID cannot be checked from here.
	StandingElsewhere Standing = "elsewhere"

	// StandingLegacy is an old gateway, which holds by its record alone.
	StandingLegacy Standing = "legacy"

	// StandingUnknown is a lock that is held by nobody knows whom: there is no
	// record, or one of a process that is gone or cannot be checked.
	StandingUnknown Standing = "unknown"

	// StandingSelf is this process.
	StandingSelf Standing = "self"
)

// A Holder is who holds a lock, as far as it can be known: a record, and what
// the system said of its process at the time of asking. The zero Holder holds
// nothing.
type Holder struct {
	Standing Standing
	Record   *Record // nil: none could be read
	Reason   string  // what the standing rests on, in words
}

// Self reports whether this process holds the lock.
func (h Holder) Self() bool { return h.Standing == StandingSelf }

// LogValue is what a Logger prints: the sentences of [Holder.String].
func (h Holder) LogValue() slog.Value { return slog.StringValue(h.String()) }

// String says in sentences who holds the lock, since when, how that is known,
// and what to do. Control characters of the record come out escaped.
func (h Holder) String() string {
	switch held := h.held(); h.Standing {
	case "":
		return held
	case StandingSelf:
		return held + " Release it first."
	case StandingVerified:
		return held + " Stop that process first, or wait until it ends."
	case StandingStopped:
		if h.Record == nil {
			return held
		}
		return fmt.Sprintf("%s Let it go on (kill -CONT %d), or end it.", held, h.Record.PID)
	case StandingElsewhere:
		return held + " Stop it where it runs."
	case StandingLegacy:
		return held + " Stop that gateway first."
	default:
		return held + " Try again; if it stays held, find the process that has the lock file open."
	}
}

// held says who holds the lock, since when, and how that is known.
func (h Holder) held() string {
	who := h.Record.owner()
	switch h.Standing {
	case "":
		return "held by nobody"
	case StandingSelf:
		return "held by this process, " + who + "."
	case StandingVerified:
		return "held by " + who + "."
	case StandingStopped:
		return "held by " + who + ", which is stopped."
	case StandingElsewhere:
		return fmt.Sprintf("held by %s (%s).", who, h.Reason)
	case StandingLegacy:
		return fmt.Sprintf("held by an old gateway, %s (%s).", who, h.Reason)
	default:
		return fmt.Sprintf("held by a process that is not known (%s).", h.Reason)
	}
}

// unverified reports whether no living holder is in sight: a prober's lock, or
// a holder about to write its record.
func (h Holder) unverified() bool { return h.Standing == StandingUnknown }

// owner names the owner of a record: program, PID, profile, since when and how
// long.
func (r *Record) owner() string {
	if r == nil {
		return "a process that left no record"
	}
	program := program(r.Argv)
	pid := "unknown PID"
	if r.PID != 0 {
		pid = "PID " + strconv.Itoa(r.PID)
	}
	if profile := r.ProfileName(); profile != "" {
		pid += ", profile " + profile
	}
	if r.Host != "" && r.Host != self().host {
		pid += ", host " + printable(r.Host)
	}
	since := r.AcquiredAt
	if since.IsZero() {
		since = r.UpdatedAt
	}
	if since.IsZero() {
		return fmt.Sprintf("%s (%s)", program, pid)
	}
	return fmt.Sprintf("%s (%s) since %s, for %s", program, pid,
		since.Local().Format("2006-01-02 15:04:05 MST"), max(0, time.Since(since)).Round(time.Second))
}

// program is a command line for people to read.
func program(argv []string) string {
	if len(argv) == 0 {
		return "a process"
	}
	words := append([]string{baseName(argv[0])}, argv[1:]...)
	return printable(strings.Join(words, " "))
}

// baseName is the last element of a path of any system.
func baseName(path string) string {
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// printable escapes what a terminal would not print, and shortens what would
// fill it.
func printable(s string) string {
	const limit = 100
	quoted := strconv.QuoteToGraphic(s)
	quoted = quoted[1 : len(quoted)-1]
	if len(quoted) > limit {
		return strings.ToValidUTF8(quoted[:limit], "") + "…"
	}
	return quoted
}
