//! Distances over the globe from additions, multiplications and roots alone.
//!
//! These are the same bits on every machine, which a mathematical library's sine is not; plans must not depend on it.

use std::f64::consts::{FRAC_PI_2, PI};

use crate::document::Location;

const EARTH_RADIUS_KM: f64 = 6_371.0;

/// A point of the unit sphere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point([f64; 3]);

impl Point {
    /// Where a location is, if it says so.
    pub(super) fn of(location: &Location) -> Option<Self> {
        Some(Self::at(location.latitude?, location.longitude?))
    }

    /// The point so many degrees north and east.
    pub(super) fn at(latitude: f64, longitude: f64) -> Self {
        let (latitude, longitude) = (latitude / 180.0 * PI, longitude / 180.0 * PI);
        let around = cosine(latitude);
        Self([around * cosine(longitude), around * sine(longitude), sine(latitude)])
    }

    /// Kilometres over the surface; too few by a sixth for the other end of the world.
    pub(super) fn distance_km(self, other: Self) -> f64 {
        let squares = self.0.iter().zip(other.0).map(|(one, other)| (one - other) * (one - other));
        let square: f64 = squares.sum();
        // The arc of a chord, as a series of the chord.
        let stretch = 1.0 + square * (1.0 / 24.0 + square * (3.0 / 640.0 + square * (5.0 / 7_168.0)));
        EARTH_RADIUS_KM * square.sqrt() * stretch
    }
}

/// For angles from -π to π.
fn sine(angle: f64) -> f64 {
    let folded = match angle {
        angle if angle > FRAC_PI_2 => PI - angle,
        angle if angle < -FRAC_PI_2 => -PI - angle,
        angle => angle,
    };
    let square = folded * folded;
    let (mut term, mut sum) = (folded, folded);
    for step in 1..9 {
        let divisor = f64::from(2 * step * (2 * step + 1));
        term *= -square / divisor;
        sum += term;
    }
    sum
}

/// For angles from -π to π.
fn cosine(angle: f64) -> f64 {
    sine(FRAC_PI_2 - angle.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(latitude: f64, longitude: f64) -> Point {
        let country = "DE".to_owned();
        let location =
            Location { country, region: None, city: None, latitude: Some(latitude), longitude: Some(longitude) };
        Point::of(&location).unwrap()
    }

    #[test]
    fn sine_and_cosine_are_those_of_the_library() {
        for degrees in -180..=180 {
            let angle = f64::from(degrees) / 180.0 * PI;
            assert!((sine(angle) - angle.sin()).abs() < 1e-9, "{degrees}");
            assert!((cosine(angle) - angle.cos()).abs() < 1e-9, "{degrees}");
        }
    }

    #[test]
    fn known_distances_come_out() {
        let frankfurt = point(50.11, 8.68);
        let cases = [
            ((50.11, 8.68), 0.0),
            ((48.86, 2.35), 479.0),
            ((37.77, -122.42), 9_150.0),
            ((35.68, 139.69), 9_340.0),
            ((-33.87, 151.21), 16_480.0),
        ];
        for ((latitude, longitude), km) in cases {
            let seen = frankfurt.distance_km(point(latitude, longitude));
            assert!((seen - km).abs() <= km * 0.07 + 1.0, "{seen} instead of {km}");
        }
    }
}
