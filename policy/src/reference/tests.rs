use super::*;

const OPEN: Truth = Truth::Unknown { pending: true };
const LOST: Truth = Truth::Unknown { pending: false };

#[test]
fn truth_has_three_values_and_remembers_what_may_still_come() {
    use Truth::{False, True};
    for (left, right, and, or) in [
        (True, True, True, True),
        (True, False, False, True),
        (False, False, False, False),
        (True, OPEN, OPEN, True),
        (True, LOST, LOST, True),
        (False, OPEN, False, OPEN),
        (False, LOST, False, LOST),
        (OPEN, OPEN, OPEN, OPEN),
        (LOST, LOST, LOST, LOST),
        (OPEN, LOST, OPEN, OPEN),
    ] {
        assert_eq!(
            (left.and(right), left.or(right)),
            (and, or),
            "{left:?} {right:?}"
        );
        assert_eq!(
            (right.and(left), right.or(left)),
            (and, or),
            "{right:?} {left:?}"
        );
    }
}
