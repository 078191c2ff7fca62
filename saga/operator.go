package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
)

// Operator looks at the instances in a database, and steers them, from outside of the programs that run them: it has none
// of their definitions. Its methods may be called concurrently.
//
// A command is left in the database for a program that has the definition of the instance. That carries it out within its
// Config.PollInterval, once, in one transaction with the answer; a command that changes nothing is refused with the error
// of the method of Orchestrator. The methods wait for the answer until ctx ends, or for a minute. Then the command is
// withdrawn, and the error matches ErrNobody.
type Operator struct{ desk }

// NewOperator returns an Operator on a database whose tables a program has made.
func NewOperator(db *store.DB) *Operator { return &Operator{desk{db, rows{db.Dialect()}}} }

// Retry is Orchestrator.Retry, by a program that runs the instance.
func (p *Operator) Retry(ctx context.Context, saga, key string) error {
	return p.command(ctx, "retry", saga, key)
}

// Skip is Orchestrator.Skip, by a program that runs the instance.
func (p *Operator) Skip(ctx context.Context, saga, key string) error {
	return p.command(ctx, "skip", saga, key)
}

// Compensate is Orchestrator.Compensate, by a program that runs the instance.
func (p *Operator) Compensate(ctx context.Context, saga, key string) error {
	return p.command(ctx, "compensate", saga, key)
}

// Cancel is Orchestrator.Cancel, by any program with sagas in the database, for it takes no definition.
func (p *Operator) Cancel(ctx context.Context, saga, key string) error {
	return p.command(ctx, "cancel", saga, key)
}

const (
	// commandPatience is how long a command waits for a program, unless its context ends before.
	commandPatience = time.Minute
	// answerInterval is how often it is looked whether it was answered.
	answerInterval = 50 * time.Millisecond
	// answerDone is the answer of what was carried out.
	answerDone = "done"
)

// refusals are the answers of what was not, with their errors; a text may follow.
var refusals = map[string]error{
	"not-found": ErrNotFound, "ended": ErrEnded, "pivot": ErrPivot, "not-stuck": ErrNotStuck, "state": ErrState, "step": ErrStep, "panic": ErrPanic,
}

// refusal returns the answer that err is, or "" if it is none.
func refusal(err error) string {
	for code, known := range refusals {
		if errors.Is(err, known) {
			return code + " " + errorText(err)
		}
	}
	return ""
}

func (p *Operator) command(ctx context.Context, name, saga, key string) error {
	if err := p.ask(ctx, name, saga, key); err != nil {
		return fmt.Errorf("saga %q: %s %q: %w", saga, name, key, err)
	}
	return nil
}

func (p *Operator) ask(ctx context.Context, name, saga, key string) error {
	r, err := p.rows.find(ctx, p.db.SQL(), saga, key, false)
	switch {
	case err != nil:
		return err
	case r == nil:
		return ErrNotFound
	case r.ended.Valid:
		return ErrEnded
	}
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	id, answer := newID(), ""
	if err = p.leave(ctx, id, name, saga, key); err == nil {
		answer, err = p.answer(ctx, id)
	}
	// What is withdrawn is not carried out any more, also where it was left in spite of an error; what was answered is not
	// needed any more.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), longestWait)
	defer stop()
	if answer == "" {
		late, err2 := p.withdraw(ctx, id)
		if answer = late; late == "" {
			return errors.Join(err, err2)
		}
	} else if _, err := p.db.SQL().ExecContext(ctx, p.rows.dialect.Bind("DELETE FROM postbus_saga_command WHERE id = ?"), id); err != nil {
		return err
	}
	code, text, _ := strings.Cut(answer, " ")
	switch known := refusals[code]; {
	case code == answerDone:
		return nil
	case known == nil:
		return errors.New(answer)
	case text == known.Error():
		return known
	default:
		return fmt.Errorf("%w (%s)", known, text)
	}
}

// leave leaves a command in the database.
func (p *Operator) leave(ctx context.Context, id, name, saga, key string) error {
	deadline, _ := ctx.Deadline()
	var now int64
	if err := p.db.SQL().QueryRowContext(ctx, p.rows.clockQuery()).Scan(&now); err != nil {
		return err
	}
	_, err := p.db.SQL().ExecContext(ctx,
		p.rows.dialect.Bind("INSERT INTO postbus_saga_command (id, saga, inst, command, until_ms) VALUES (?, ?, ?, ?, ?)"),
		id, saga, key, name, now+milli(time.Until(deadline)))
	return err
}

// answer waits for the answer to a command.
func (p *Operator) answer(ctx context.Context, id string) (string, error) {
	tick := time.NewTicker(answerInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", ErrNobody, ctx.Err())
		case <-tick.C:
		}
		text, err := p.look(ctx, id)
		if text != "" || err != nil && ctx.Err() == nil {
			return text, err
		}
	}
}

func (p *Operator) look(ctx context.Context, id string) (text string, err error) {
	q := "SELECT COALESCE(answer, '') FROM postbus_saga_command WHERE id = ?"
	err = p.db.SQL().QueryRowContext(ctx, p.rows.dialect.Bind(q), id).Scan(&text)
	return text, err
}

// withdraw removes a command, unless it has been answered: then it returns the answer.
func (p *Operator) withdraw(ctx context.Context, id string) (answer string, err error) {
	res, err := p.db.SQL().ExecContext(ctx, p.rows.dialect.Bind("DELETE FROM postbus_saga_command WHERE id = ? AND answer IS NULL"), id)
	if err != nil {
		return "", err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return "", err
	}
	if answer, err = p.look(ctx, id); errors.Is(err, sql.ErrNoRows) {
		return "", nil
	} else if err == nil {
		_, err = p.db.SQL().ExecContext(ctx, p.rows.dialect.Bind("DELETE FROM postbus_saga_command WHERE id = ?"), id)
	}
	return answer, err
}
