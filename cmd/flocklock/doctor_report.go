// What the doctor found, in words and as JSON.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// A severity says whether a finding makes the doctor fail.
type severity string

const (
	aProblem severity = "problem"
	aNote    severity = "note"
)

// A finding is one thing that is, or may be, wrong. Its keys and the values of
// ID are there to stay.
type finding struct {
	ID       string   `json:"id"`
	Severity severity `json:"severity"`
	Path     string   `json:"path"`
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Mend     string   `json:"mend"`
	Fixed    bool     `json:"fixed"`
}

// left reports whether a finding is a problem that is there still.
func (f finding) left() bool { return f.Severity == aProblem && !f.Fixed }

// rank orders findings: what is left to do comes first.
func (f finding) rank() int {
	switch {
	case f.left():
		return 0
	case !f.Fixed:
		return 1
	default:
		return 2
	}
}

// A diagnosis is all that the doctor has to say.
type diagnosis struct {
	Directory string    `json:"directory"`
	Reason    string    `json:"reason"` // why it is this directory
	Findings  []finding `json:"findings"`
}

func tellDiagnosisJSON(w io.Writer, d diagnosis) error {
	if d.Findings == nil {
		d.Findings = []finding{}
	}
	return json.NewEncoder(w).Encode(d)
}

func tellDiagnosis(w io.Writer, d diagnosis) error {
	var text strings.Builder
	writeParagraph(&text, fmt.Sprintf("The lock directory is %s: %s.", d.Directory, d.Reason))
	var problems, notes, mended int
	for _, f := range d.Findings {
		kind := string(f.Severity)
		advice := "  To mend it: " + escaped(f.Mend) + "\n" // in one line, for it may be copied to a shell
		switch {
		case f.Fixed:
			kind, advice = "mended", ""
			mended++
		case f.Severity == aProblem:
			problems++
		default:
			notes++
		}
		writeParagraph(&text, fmt.Sprintf("%s (%s) %s: %s %s", kind, f.ID, f.Path, f.What, f.Why))
		text.WriteString(advice)
	}
	fmt.Fprintf(&text, "\n%s, %s, %d mended.\n", counted(problems, "problem"), counted(notes, "note"), mended)
	_, err := io.WriteString(w, text.String())
	return err
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// writeParagraph writes lines of at most 80 columns, unless one word, a path
// that is to be copied, is longer. All but the first line are set in.
func writeParagraph(text *strings.Builder, paragraph string) {
	const columns, indent = 80, "  "
	if text.Len() > 0 {
		text.WriteString("\n")
	}
	column := 0
	for word := range strings.SplitSeq(escaped(paragraph), " ") {
		width := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+width > columns:
			text.WriteString("\n" + indent)
			column = len(indent)
		default:
			text.WriteString(" ")
			column++
		}
		text.WriteString(word)
		column += width
	}
	text.WriteString("\n")
}

// shellWord quotes a path for a shell.
func shellWord(path string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(`/\:._-+,@%`, c)
	}
	if path != "" && strings.IndexFunc(path, func(c rune) bool { return !plain(c) }) < 0 {
		return path
	}
	if filepath.Separator == '\\' {
		return `"` + path + `"` // which may have no such quote in it
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
