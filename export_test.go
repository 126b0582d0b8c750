package flocklock

// WriterPatience is how long a new starter waits for the writer of an empty file.
const WriterPatience = writerPatience

// ForgetHeld releases every lock of this process, those too that a test forgot
// on purpose.
func ForgetHeld() {
	for _, l := range held.all() {
		l.Release()
	}
}

// Waiting says how many goroutines of this process wait for a lock, and whether
// the kernel's wait for it has begun.
func Waiting(d Dir, name string) (turns int, parked bool) {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	w := held.waiting.waiters[d.path(name, lockSuffix)]
	if w == nil {
		return 0, false
	}
	return w.turns.Len(), w.parked
}

// MaxStrays bounds, for one lock, the goroutines that wait for a lock file which is
// not at its path any more.
const MaxStrays = maxStrays

// Strays says how many those are.
func Strays(d Dir, name string) int {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	if w := held.waiting.waiters[d.path(name, lockSuffix)]; w != nil {
		return w.strays
	}
	return 0
}

// Parked says how many goroutines of this process wait in the kernel.
func Parked() int {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	return held.waiting.parked
}
