// The table of ls: what stands in it, and how it is made to fit.

package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/flocklock/flocklock"
)

// A table is rows of cells below a row of titles.
type table struct {
	columns []column
	rows    [][]cell
}

// A column may be cut down to least.
type column struct {
	title string
	least int
}

type cell struct {
	text   string
	colour string // as a terminal's escape sequence has it; "": none
}

const (
	green  = "32"
	yellow = "33"
	faint  = "2"
)

// The columns in the order in which they stand.
const (
	scopeColumn = iota
	hashColumn
	stateColumn
	holderColumn
	sinceColumn
	standingColumn
	noteColumn
)

// cutOrder is who gives way where there is no room: a note first, for status
// tells it in full, then the wider of the others.
var cutOrder = [][]int{{noteColumn}, {scopeColumn, holderColumn}}

// lockTable makes the table of some locks.
func lockTable(locks []flocklock.Status, now time.Time) *table {
	t := &table{columns: []column{
		scopeColumn:    {"SCOPE", 12},
		hashColumn:     {"HASH", 6},
		stateColumn:    {"STATE", 5},
		holderColumn:   {"HOLDER", 12},
		sinceColumn:    {"SINCE", 12},
		standingColumn: {"STANDING", 9},
		noteColumn:     {"NOTE", 10},
	}}
	scopes := make(map[string]int)
	for _, s := range locks {
		scopes[s.Scope]++
	}
	for _, s := range locks {
		row := lockRow(s, now)
		if scopes[s.Scope] < 2 {
			row[hashColumn].text = ""
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func lockRow(s flocklock.Status, now time.Time) []cell {
	row := make([]cell, noteColumn+1)
	row[scopeColumn].text = escaped(s.Scope)
	row[hashColumn].text = s.IdentityHash[:min(6, len(s.IdentityHash))]
	row[stateColumn] = cell{string(s.State), stateColour(s)}
	row[noteColumn].text = escaped(note(s))
	if s.State != flocklock.Held {
		return row
	}
	row[standingColumn] = cell{string(s.Holder.Standing), standingColour(s.Holder.Standing)}
	row[holderColumn].text = "not known"
	// A record may be of a process that has ended; then the note says so.
	if r := s.Holder.Record; r != nil && s.Holder.Standing != flocklock.StandingUnknown {
		row[holderColumn].text = holderText(r)
		row[sinceColumn].text = since(r, now)
	}
	return row
}

func stateColour(s flocklock.Status) string {
	if s.State == flocklock.Held {
		return green
	}
	return faint
}

func standingColour(standing flocklock.Standing) string {
	if standing == flocklock.StandingVerified || standing == flocklock.StandingSelf {
		return ""
	}
	return yellow
}

// note says what the other columns do not.
func note(s flocklock.Status) string {
	switch s.Holder.Standing {
	case flocklock.StandingVerified, flocklock.StandingSelf, flocklock.StandingStopped:
		return ""
	case "":
		if s.Leftover {
			return "left over: " + s.Left
		}
		return ""
	default:
		return s.Holder.Reason
	}
}

// holderText has the program last, of which the end may be cut off.
func holderText(r *flocklock.Record) string {
	text := "PID unknown"
	if r.PID != 0 {
		text = strconv.Itoa(r.PID)
	}
	if profile := cmp.Or(r.ProfileName(), r.Profile); profile != "" {
		text += " (" + escaped(profile) + ")"
	}
	if len(r.Argv) > 0 {
		program := r.Argv[0]
		program = program[strings.LastIndexAny(program, `/\`)+1:]
		text += " " + escaped(strings.Join(append([]string{program}, r.Argv[1:]...), " "))
	}
	return text
}

// since is a time of today, or a day. How long ago that is would change with
// every look.
func since(r *flocklock.Record, now time.Time) string {
	began := r.AcquiredAt
	if began.IsZero() {
		began = r.UpdatedAt
	}
	if began.IsZero() {
		return ""
	}
	began, now = began.Local(), now.Local()
	switch {
	case began.Format(time.DateOnly) == now.Format(time.DateOnly):
		return began.Format(time.TimeOnly)
	case began.Year() == now.Year():
		return began.Format("Jan _2 15:04")
	default:
		return began.Format(time.DateOnly)
	}
}

const gap = 2 // spaces between columns

// lines lays the table out in so many columns of a terminal. A column in which
// nothing stands is left out.
func (t *table) lines(room int, coloured paint) []string {
	widths := t.widths(room)
	lines := make([]string, 0, len(t.rows)+1)
	titles := make([]cell, len(t.columns))
	for i, c := range t.columns {
		titles[i].text = c.title
	}
	for _, row := range append([][]cell{titles}, t.rows...) {
		lines = append(lines, line(row, widths, coloured))
	}
	return lines
}

func line(row []cell, widths []int, coloured paint) string {
	var b strings.Builder
	blank := 0 // spaces to come, unless nothing follows
	for i, c := range row {
		if widths[i] == 0 {
			continue
		}
		text := cut(c.text, widths[i])
		if text != "" {
			fmt.Fprintf(&b, "%*s%s", blank, "", coloured(text, c.colour))
			blank = 0
		}
		blank += widths[i] - width(text) + gap
	}
	return b.String()
}

// widths says how wide each column is; 0: it is left out.
func (t *table) widths(room int) []int {
	widths := make([]int, len(t.columns))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], width(c.text))
		}
	}
	total := -gap
	for i, c := range t.columns {
		if widths[i] > 0 {
			widths[i] = max(widths[i], len(c.title))
			total += widths[i] + gap
		}
	}
	for _, columns := range cutOrder {
		for total > room && t.narrow(widths, columns) {
			total--
		}
	}
	for i := len(widths) - 1; i > 0 && total > room; i-- {
		if widths[i] > 0 {
			total -= widths[i] + gap
			widths[i] = 0
		}
	}
	return widths
}

// narrow takes a character from the widest of some columns, if one has more
// than its least.
func (t *table) narrow(widths, columns []int) bool {
	widest := -1
	for _, i := range columns {
		if widths[i] > t.columns[i].least && (widest < 0 || widths[i] > widths[widest]) {
			widest = i
		}
	}
	if widest < 0 {
		return false
	}
	widths[widest]--
	return true
}

// cut shortens a text to so many columns.
func cut(text string, columns int) string {
	if width(text) <= columns {
		return text
	}
	used := 1 // the ellipsis
	for i, r := range text {
		if used += runeWidth(r); used > columns {
			return text[:i] + "…"
		}
	}
	return text
}

// width is how many columns of a terminal a text takes.
func width(text string) (columns int) {
	for _, r := range text {
		columns += runeWidth(r)
	}
	return columns
}

// wide is what takes two columns of a terminal.
var wide = []*unicode.RangeTable{
	unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana,
	{
		R16: []unicode.Range16{{Lo: 0x3000, Hi: 0x303e, Stride: 1}, {Lo: 0xff01, Hi: 0xff60, Stride: 1}},
		R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1faff, Stride: 1}},
	},
}

func runeWidth(r rune) int {
	switch {
	case r < unicode.MaxLatin1:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.IsOneOf(wide, r):
		return 2
	default:
		return 1
	}
}

// escaped makes text of what a terminal would take for more.
func escaped(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsGraphic(r) }) {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
