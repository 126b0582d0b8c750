package flocklock_test

// What reads /proc, fuzzed.

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/flocklock/flocklock"
)

// Whatever stands in fdinfo: only a whole line of a lock that is held, of flock(2),
// and exclusive, makes a holder, whatever stands around it.
func FuzzHasFlock(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		around := string(text) + "\n"
		has := flocklock.HasFlock([]byte(around))
		if has && (!strings.Contains(around, "lock:") || !strings.Contains(around, "FLOCK") || !strings.Contains(around, "WRITE")) {
			t.Errorf("a lock in %q", around)
		}
		byLine := false
		for line := range strings.Lines(around) {
			byLine = byLine || flocklock.HasFlock([]byte(line))
		}
		if byLine != has {
			t.Errorf("%v for all of %q, %v line by line", has, around, byLine)
		}
		for _, known := range fdinfos {
			if got := flocklock.HasFlock([]byte(around + known.text)); got != (has || known.has) {
				t.Errorf("%v for %q", got, around+known.text)
			}
		}
	})
}

// statLine is what the kernel writes for a process: before the name, the name,
// the state and the 49 fields after it; see proc_pid_stat(5).
func statLine(name []byte, state byte, start int64) []byte {
	fields := strings.Repeat(" 1", 18)
	rest := strings.Repeat(" 0", 30)
	return fmt.Appendf(nil, "4030 (%s) %c%s %d%s\n", name, state, fields, start, rest)
}

// statShape is proc_pid_stat(5) once more, with "_" for a blank and "=" for what
// is none: the name ends with the last ")".
var statShape = regexp.MustCompile(strings.NewReplacer("_", `[\s\v\pZ\x{85}]`, "=", `[^\s\v\pZ\x{85})]`).
	Replace(`(?s)^[^(]*\(.*\)_*=(?:_+=+){18}_+([+-]?[0-9]+)_[^)]*$`))

// A process may call itself anything, with blanks, parentheses and lines in it,
// even what looks like the fields that follow (43): its start is read, or none,
// also where the text was cut short.
func FuzzStat(f *testing.F) {
	const longestName = 15 // proc_pid_comm(5)
	f.Fuzz(func(t *testing.T, name []byte, start int64, text []byte) {
		if _, got, _, ok := flocklock.ParseStat(text); ok {
			part := statShape.FindSubmatch(text)
			if part == nil || strings.TrimPrefix(string(part[1]), "+") != fmt.Sprint(got) && !strings.HasPrefix(strings.TrimLeft(string(part[1]), "+-"), "0") {
				t.Errorf("start %d in %q", got, text)
			}
		}
		name = name[:min(len(name), longestName)]
		oddName := len(bytes.Fields(append([]byte("("), name...))) != 1
		const states = "RSDZTtXxKWPI"
		state := states[uint64(start)%uint64(len(states))]
		line := statLine(name, state, start)
		for end := range len(line) + 1 {
			gotState, gotStart, odd, ok := flocklock.ParseStat(line[:end])
			if ok && (gotState != state || gotStart != start || odd != oddName) {
				t.Fatalf("%c, %d, %v of %q", gotState, gotStart, odd, line[:end])
			}
			if end == len(line) && !ok {
				t.Fatalf("nothing of %q", line)
			}
		}
	})
}
