package flocklock_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// An eventLog keeps what a Logger is told.
type eventLog struct {
	mu    sync.Mutex
	lines []string
}

func (e *eventLog) Enabled(context.Context, slog.Level) bool { return true }
func (e *eventLog) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *eventLog) WithGroup(string) slog.Handler            { return e }

func (e *eventLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.Key + "=" + a.Value.Resolve().String(); return true })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, line)
	return nil
}

func (e *eventLog) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

func (e *eventLog) saw(event string) bool {
	return slices.ContainsFunc(e.all(), func(line string) bool { return strings.Contains(line, "event="+event+" ") })
}

// A misbehaving logger does something else when it is told of an event.
type misbehaving struct {
	slog.Handler
	event string
	do    func()
}

func (m misbehaving) Enabled(context.Context, slog.Level) bool { return true }

func (m misbehaving) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" && a.Value.String() == m.event {
			m.do()
		}
		return true
	})
	return nil
}
