package middleware

import "errors"

// Verdict says when a message comes again after an error of its handler.
type Verdict uint8

const (
	// Usual is what happens without a rule: tries in process, then the delayed retries. It ends the search for a rule.
	Usual Verdict = iota
	// Never makes the error bus.Permanent: the message goes to quarantine at once. (NServiceBus: an unrecoverable exception.)
	Never
	// AtOnce tries again in process without a pause, as often as RetryConfig.Attempts allows, and then goes on as Usual: for
	// the loser of a race, such as a transaction that a deadlock or a newer version has rolled back. (NServiceBus:
	// ImmediateRetry.)
	AtOnce
	// Later does without tries in process, and goes to the delayed retries at once: for what will not pass within a
	// second, such as an outage. (NServiceBus: DelayedRetry.)
	Later
)

// Rule is a Verdict for some errors. What the handler says itself, with bus.Permanent or bus.RetryAfter, goes before.
type Rule struct {
	// If says which errors the rule speaks about. It is called concurrently. Required: a rule without speaks about none.
	If func(error) bool
	// Then is what becomes of them. Default: Usual.
	Then Verdict
}

// Is is a rule for the errors that match target by errors.Is.
func Is(target error, then Verdict) Rule {
	return Rule{func(err error) bool { return errors.Is(err, target) }, then}
}

// As is a rule for the errors that are, or wrap, an E by errors.As.
func As[E error](then Verdict) Rule {
	return Rule{func(err error) bool { _, ok := errors.AsType[E](err); return ok }, then}
}

// verdictOn returns the verdict of the first rule that speaks about err.
func verdictOn(rules []Rule, err error) Verdict {
	for i := range rules {
		if rules[i].If != nil && rules[i].If(err) {
			return rules[i].Then
		}
	}
	return Usual
}
