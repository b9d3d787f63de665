use super::*;

#[test]
fn what_is_held_is_counted_in_steps_and_given_back() {
    let budget = MemoryBudget::new(0);
    assert_eq!(budget.limit(), LIMIT_MIN);
    let mut counted = 0;
    for (held, used) in [
        (STEP - 1, 0),
        (STEP, STEP),
        (2 * STEP - 1, STEP),
        (3 * STEP, 3 * STEP),
        (0, 0),
    ] {
        assert!(!budget.note(&mut counted, held));
        assert_eq!(budget.used(), used);
    }
    assert_eq!(budget.peak(), 3 * STEP);
}

#[test]
fn whoever_reaches_the_mark_is_to_relieve_it_and_whoever_gives_back_is_not() {
    let budget = MemoryBudget::new(1024 * 1024);
    let mut counted = 0;
    assert!(!budget.note(&mut counted, 512 * 1024));
    assert!(budget.note(&mut counted, 1024 * 1024));
    assert!(budget.is_tight() && budget.is_full());
    assert!(!budget.note(&mut counted, 1000 * 1024));
    assert!(budget.is_tight() && !budget.is_full());
    // There are no sessions that could go.
    budget.relieve();
    assert_eq!(budget.shed(), 0);
}

#[test]
fn an_account_gives_back_what_it_has_when_it_goes() {
    let budget = MemoryBudget::new(1024 * 1024);
    let mut account = BudgetAccount::new(&budget);
    account.note(100_000);
    assert!(budget.used() > 90_000);
    drop(account);
    assert_eq!(budget.used(), 0);
}

#[test]
fn all_that_hold_little_hold_less_than_is_left_after_shedding() {
    let budget = MemoryBudget::new(16 * 1024 * 1024);
    for sessions in [1, 7, 100, 1_000] {
        budget.inner.count.store(sessions, Relaxed);
        let mut most = 0;
        while budget.is_little(most + STEP) {
            most += STEP;
        }
        assert!(most * sessions <= budget.inner.low, "{most} * {sessions}");
    }
}

#[test]
fn the_budget_of_the_process_is_one_and_the_same() {
    let budget = MemoryBudget::process();
    assert_eq!(budget.limit(), MemoryBudget::process().limit());
    assert!(budget.limit() <= DEFAULT_MAX as usize);
}
