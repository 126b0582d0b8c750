package main

import (
	"os"
	"runtime"
	"testing"

	"github.com/flocklock/flocklock"
)

func BenchmarkAcquireRelease(b *testing.B) { each(b, acquirers) }

func BenchmarkRefused(b *testing.B) { each(b, refusers) }

func each(b *testing.B, contenders []contender) {
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			do, err := c.prepare(newCrew(b), b.TempDir())
			if err == nil {
				err = do() // makes what the later ones find
			}
			check(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// newCrew returns a crew that is dismissed when the test ends.
func newCrew(tb testing.TB) *crew {
	var c crew
	tb.Cleanup(c.dismiss)
	return &c
}

// BenchmarkAcquireReleaseAfterCrash takes a lock whose last holder was killed
// and left its record.
func BenchmarkAcquireReleaseAfterCrash(b *testing.B) {
	dead, err := startHolder(newCrew(b), b.TempDir())
	check(b, err)
	check(b, dead.kill())
	dead.reap()
	left, err := os.ReadFile(recordOf(dead.path))
	check(b, err)
	for b.Loop() {
		b.StopTimer()
		check(b, os.WriteFile(recordOf(dead.path), left, 0o644))
		b.StartTimer()
		check(b, acquireRelease(dead.dir))
	}
}

// TestNoGoroutine sees that a lock which is free costs no goroutine.
func TestNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	lock, err := flocklock.Dir(t.TempDir()).TryAcquire(scope, secret)
	if err != nil {
		t.Fatal(err)
	}
	held := runtime.NumGoroutine()
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if after := runtime.NumGoroutine(); held > before || after > before {
		t.Errorf("%d goroutines before, %d while it was held, %d after", before, held, after)
	}
}
