// What systemd-tmpfiles would do to a directory.

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tmpfilesDirs are where systemd-tmpfiles is configured. A file hides those of
// the same name in the directories after its own.
var tmpfilesDirs = []string{"/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d", "/lib/tmpfiles.d"}

// ageingLine is the line of systemd-tmpfiles's configuration by which old files
// of a directory are removed; "" where there is none.
func ageingLine(dir string) string {
	lines := tmpfilesLines()
	for at := dir; ; at = filepath.Dir(at) {
		for _, line := range lines {
			if !line.covers(at) {
				continue
			}
			if line.kind == 'x' || line.kind == 'X' && at == dir {
				return ""
			}
			if line.ages() {
				return line.text
			}
			if line.makesDir() {
				return "" // a line of its own keeps those above it off
			}
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// A tmpfilesLine is one of tmpfiles.d(5).
type tmpfilesLine struct {
	kind      byte
	path, age string
	text      string
}

func tmpfilesLines() (lines []tmpfilesLine) {
	var seen []string
	for _, dir := range tmpfilesDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".conf") || slices.Contains(seen, entry.Name()) {
				continue
			}
			seen = append(seen, entry.Name())
			for line := range strings.Lines(string(readSmall(filepath.Join(dir, entry.Name())))) {
				if parsed, ok := parseTmpfilesLine(line); ok {
					parsed.text += " in " + filepath.Join(dir, entry.Name())
					lines = append(lines, parsed)
				}
			}
		}
	}
	return lines
}

// specifiers are those of tmpfiles.d(5) that stand for a directory of the system.
var specifiers = strings.NewReplacer("%%", "%", "%t", "/run", "%T", "/tmp", "%V", "/var/tmp", "%S", "/var/lib", "%C", "/var/cache", "%L", "/var/log", "%h", "/root")

func parseTmpfilesLine(line string) (tmpfilesLine, bool) {
	const typeField, pathField, ageField = 0, 1, 5
	fields := strings.Fields(line)
	if len(fields) <= pathField || strings.HasPrefix(fields[0], "#") {
		return tmpfilesLine{}, false
	}
	parsed := tmpfilesLine{
		kind: fields[typeField][0],
		path: filepath.Clean(specifiers.Replace(strings.Trim(fields[pathField], `"'`))),
		text: strings.Join(fields, " "),
	}
	if len(fields) > ageField {
		parsed.age = fields[ageField]
	}
	return parsed, true
}

func (l tmpfilesLine) covers(path string) bool {
	if strings.IndexByte("exX", l.kind) >= 0 {
		matched, err := filepath.Match(l.path, path)
		return err == nil && matched
	}
	return l.path == path
}

func (l tmpfilesLine) makesDir() bool { return strings.IndexByte("dDevqQC", l.kind) >= 0 }

func (l tmpfilesLine) ages() bool { return l.makesDir() && l.age != "" && l.age != "-" }
