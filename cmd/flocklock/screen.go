// What the terminal can do, if there is one.

package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/term"
)

// A screen is where a table is shown.
type screen struct {
	file      *os.File
	canRedraw bool
	colour    paint
}

// A size is that of a terminal in characters.
type size struct{ columns, rows int }

// paint gives a text a colour.
type paint func(text, colour string) string

func plain(text, _ string) string { return text }

func inColour(text, colour string) string {
	if colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// openScreen finds out what can be shown on a file. NO_COLOR is as
// https://no-color.org has it.
func openScreen(file *os.File) screen {
	s := screen{file: file, colour: plain}
	if term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" && allowEscapes(file) {
		s.canRedraw = true
		if os.Getenv("NO_COLOR") == "" {
			s.colour = inColour
		}
	}
	return s
}

// size is that of the terminal, or of a page of 80 columns. The last column of
// a terminal is left free: what some of them do when it is full moves the lines.
func (s screen) size() size {
	columns, rows, err := term.GetSize(int(s.file.Fd()))
	if err != nil || columns < 2 {
		return size{80, 24}
	}
	return size{columns - 1, rows}
}

// A drawing is what stands on a terminal, to be replaced by the next.
type drawing struct {
	lines []string
	size  size
}

// redraw puts lines in the place of the last ones, as many as there is room for.
func (d *drawing) redraw(w io.Writer, lines []string, size size) {
	lines = fitting(lines, size)
	if size == d.size && slices.Equal(lines, d.lines) {
		return
	}
	switch {
	case d.lines == nil:
	case size == d.size:
		fmt.Fprintf(w, "\r\x1b[%dA", len(d.lines)) // up to the first of the last lines
	default:
		fmt.Fprint(w, "\x1b[H\x1b[2J") // for nobody knows where the lines went
	}
	for _, line := range lines {
		fmt.Fprintf(w, "%s\x1b[K\n", line) // and clear the rest of the line
	}
	fmt.Fprint(w, "\x1b[J") // and what is below
	d.lines, d.size = lines, size
}

// fitting leaves out what a terminal of that size has no room for; the cursor
// stands below the lines.
func fitting(lines []string, size size) []string {
	room := size.rows - 1
	if room < 2 || len(lines) <= room {
		return lines
	}
	left := len(lines) - (room - 1)
	return append(slices.Clone(lines[:room-1]), cut(fmt.Sprintf("and %d more, for which the terminal has no room", left), size.columns))
}
