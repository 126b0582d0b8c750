package flocklock

// ForgetHeld releases every lock of this process, those too that a test forgot
// on purpose.
func ForgetHeld() {
	held.mu.Lock()
	var all []*Lock
	for _, locks := range held.locks {
		all = append(all, locks...)
	}
	held.mu.Unlock()
	for _, l := range all {
		l.Release()
	}
}
